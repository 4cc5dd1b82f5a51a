"""The same service, with LiteLLM making the calls."""

import asyncio
import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from conduit import ModelArm
from conduit.engines.executor import LiteLLMExecutor
from conduit.engines.router import Router
from conduit.service import Service
from conduit.testing import LocalProvider


async def main() -> None:
    """Complete one prompt through LiteLLM, on simulated models."""
    print("no provider is asked: the models are simulated on this machine")
    async with LocalProvider() as provider:
        arms = [ModelArm(m.name, base_url=provider.base_url) for m in provider.models]
        async with Service(Router(arms, seed=1), LiteLLMExecutor()) as service:
            result = await service.complete("What is the capital of Italy?")
            print(result.model, result.data)


asyncio.run(main())

# the model that was chosen, and its answer
