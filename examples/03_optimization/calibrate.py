"""Calibrate before launch: every model answers the same prompts, and the router starts warm."""

import asyncio

from conduit import ModelArm
from conduit.engines.executor import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.service import Service
from conduit.testing import LocalProvider, SimulatedModel
from conduit.testing.local_provider import provider_questions

MODELS = [
    SimulatedModel("clerk", input_usd_per_mtok=1, output_usd_per_mtok=4,
                   skill={"arithmetic": 0.3, "capitals": 0.95}),
    SimulatedModel("engineer", input_usd_per_mtok=1, output_usd_per_mtok=4,
                   skill={"arithmetic": 0.95, "capitals": 0.3}),
]  # fmt: skip


async def main() -> None:
    """Forty prompts by two simulated models, over real HTTP."""
    print("no provider is asked: the models are simulated on this machine")
    questions = provider_questions(["arithmetic", "capitals"], 40, seed=1)
    prompts = [{"text": q.prompt, "expected": q.expected} for q in questions]
    async with LocalProvider(models=MODELS) as provider:
        arms = [ModelArm(m.name, input_usd_per_mtok=m.input_usd_per_mtok,
                         output_usd_per_mtok=m.output_usd_per_mtok, base_url=provider.base_url)
                for m in MODELS]  # fmt: skip
        async with Service(Router(arms, seed=1), PydanticAIExecutor()) as service:
            report = await service.calibrate(prompts, max_usd=1.0)
            print(report.summary())


asyncio.run(main())

# A table of both models, the held-out quality of routing beside the best single model's, and
# whether as many prompts again would pay.
