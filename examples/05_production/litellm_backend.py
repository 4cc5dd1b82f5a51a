"""The same service, with LiteLLM making the calls (needs the extra `litellm`)."""

import asyncio
import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its price list stays on this disk

from pool import pool

from conduit import create_service


async def main() -> None:
    """Complete one prompt through LiteLLM."""
    with pool() as models:
        async with await create_service(
            models=models,
            execution_backend="litellm",
            database_url="sqlite:///litellm.db",
            seed=1,
        ) as service:
            result = await service.complete("What is the capital of Norway?")
            print("asked through", type(service.executor).__name__)
            print(f"{result.model}: {result.data}")


asyncio.run(main())

# no provider key is set: simulated models on this machine answer, at no cost
# asked through LiteLLMExecutor
# sim-…: Oslo
