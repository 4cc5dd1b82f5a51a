"""A PydanticAI agent whose model is the router."""

import asyncio

from pydantic_ai import Agent

from conduit import ModelArm
from conduit.engines.router import Router
from conduit.integrations.pydantic_ai import ConduitModel
from conduit.testing import LocalProvider


async def main() -> None:
    """Every request of the agent is routed and learned from."""
    print("no provider is asked: the models are simulated on this machine")
    async with LocalProvider() as provider:
        arms = [ModelArm(m.name, base_url=provider.base_url) for m in provider.models]
        async with Router(arms, seed=1) as router:
            agent = Agent(ConduitModel(router))
            result = await agent.run("What is the capital of France?")
            print(result.output)
            print(router.get_stats().decisions, "decision")


asyncio.run(main())

# Paris (or what the chosen simulated model thinks), and: 1 decision
