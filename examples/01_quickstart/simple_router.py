"""Route a few queries, say how good the answers were, and see the router learn."""

import asyncio

from conduit import Feedback, ModelArm, Query, Router

MODELS = [
    ModelArm("acme:small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, quality=0.7),
    ModelArm("acme:large", input_usd_per_mtok=5.0, output_usd_per_mtok=20.0, quality=0.8),
]


async def main() -> None:
    """The small model is good at greetings; nobody told the router."""
    async with Router(MODELS, preferences="quality", seed=1) as router:
        for i in range(100):
            decision = await router.route(Query(text=f"Say hello to customer number {i}"))
            good = 0.95 if decision.selected_model == "acme:small" else 0.6
            await router.feedback(decision, Feedback(quality_score=good))
        print(router.explain(await router.route("Say hello to my mother")))


asyncio.run(main())

# acme:small is expected to reach quality 0.93 ± 0.01 for …; the best of 2 with probability 1.00
#
# model                                           quality    dollars  seconds  utility      p
# *acme:small                               0.935 ± 0.014    …        unknown    0.934  0.994
#  acme:large                               0.737 ± 0.023    …        unknown    0.695  0.006
