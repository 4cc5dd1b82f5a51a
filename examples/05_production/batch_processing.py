"""Many prompts at once: in order, at most eight at a time, failures as values."""

import asyncio

from conduit import ConduitError, ModelArm
from conduit.engines.executor import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.service import Service
from conduit.testing import LocalProvider


async def main() -> None:
    """Complete thirty prompts on simulated models."""
    print("no provider is asked: the models are simulated on this machine")
    async with LocalProvider() as provider:
        arms = [ModelArm(m.name, base_url=provider.base_url) for m in provider.models]
        async with Service(Router(arms, seed=1), PydanticAIExecutor()) as service:
            results = await service.complete_batch([f"What is {i} + {i}?" for i in range(30)])
            failed = [r for r in results if isinstance(r, ConduitError)]
            print(f"{len(results) - len(failed)} answered, {len(failed)} failed")


asyncio.run(main())

# 30 answered, 0 failed
