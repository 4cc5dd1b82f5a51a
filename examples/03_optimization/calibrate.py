"""Calibrate before launch: every model answers the same prompts, and the router starts warm."""

import asyncio
import os

from conduit import create_service
from conduit.catalogue.models import arms_from_environment
from conduit.testing import LocalProvider, SimulatedModel
from conduit.testing.local_provider import provider_questions

CLERK = {"arithmetic": 0.3, "capitals": 0.95}
ENGINEER = {"arithmetic": 0.95, "capitals": 0.3}
SIMULATED = [SimulatedModel("clerk", 1, 4, CLERK), SimulatedModel("engineer", 1, 4, ENGINEER)]


async def main() -> None:
    """Forty prompts whose answers are known, by every model, for a dollar at most."""
    questions = provider_questions(["arithmetic", "capitals"], 40, seed=1)
    prompts = [{"text": q.prompt, "expected": q.expected} for q in questions]
    async with LocalProvider(SIMULATED) as provider:
        models = arms_from_environment(os.environ) or provider.arms
        if models == provider.arms:
            print("no provider key is set: simulated models on this machine answer, at no cost")
        async with await create_service(
            models=models, database_url="sqlite:///calibrate.db", seed=1
        ) as service:
            print((await service.calibrate(prompts, max_usd=1.0)).summary())


asyncio.run(main())

# no provider key is set: simulated models on this machine answer, at no cost
# 40 of 40 prompts answered by every model, $0.0016 spent
#
# model                                            quality  $ per query  seconds  routed
# clerk                                      0.650 ± 0.150     1.96e-05     0.08     50%
# engineer                                   0.650 ± 0.150     1.95e-05     0.08     50%
# best for their price: engineer
#
# routed (held out): utility 0.6643 ± 0.0762, beside 0.3657 of the best single model (engineer)
# quality 0.9500, beside 0.6500 of the best static mix at the same cost
# dollars per query: 1.96e-05, … saved beside the best single model, and no static mix is as good
# as many prompts again would … pay (+0.0006 utility)
