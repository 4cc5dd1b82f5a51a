"""A PydanticAI agent with a tool, whose model is the router."""

import asyncio

from pool import pool
from pydantic_ai import Agent

from conduit import Router
from conduit.integrations.pydantic_ai import ConduitModel


async def main() -> None:
    """Every request of the agent is routed, and learned from."""
    with pool() as models:
        async with Router(models, seed=1) as router:
            agent = Agent(ConduitModel(router))
            result = await agent.run("What is the capital of Norway?")
            print(result.output)
            print("answered by", result.response.metadata["conduit"]["model"])
            print(router.get_stats().decisions, "decision")


asyncio.run(main())

# no provider key is set: simulated models on this machine answer, at no cost
# Oslo
# answered by sim-…
# 1 decision
