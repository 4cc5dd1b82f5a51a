"""The same query under four presets and under weights of your own."""

import asyncio

from conduit import ModelArm, Preferences, Query, Router

MODELS = [
    ModelArm("acme:cheap", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, quality=0.7,
             latency_s=2.0, output_tokens=300),
    ModelArm("acme:fast", input_usd_per_mtok=1, output_usd_per_mtok=4, quality=0.72,
             latency_s=0.4, output_tokens=300),
    ModelArm("acme:best", input_usd_per_mtok=3, output_usd_per_mtok=12, quality=0.9,
             latency_s=4.0, output_tokens=300),
]  # fmt: skip
TEXT = "Explain how vaccines work to a ten-year-old."


async def main() -> None:
    """Preferences are arguments of a decision; they never change what was learned."""
    own = Preferences(quality=0.6, cost=0.4, latency=0.0, cost_scale_usd=0.01)
    async with Router(MODELS, floor=0.0, seed=1) as router:
        for wish in ("balanced", "quality", "cost", "speed", own):
            decision = await router.route(Query(text=TEXT, preferences=Preferences.of(wish)))
            print(f"{'own' if wish is own else wish:>9}: {decision.selected_model}")


asyncio.run(main())

#  balanced: acme:cheap
#   quality: acme:best
#      cost: acme:cheap
#     speed: acme:fast
#       own: acme:cheap
