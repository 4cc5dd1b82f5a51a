"""The same query under four presets and under weights of your own."""

import asyncio

from conduit import Preferences, Query, Router

TEXT = "Explain how vaccines work to a ten-year-old."


async def main() -> None:
    """Preferences are arguments of a decision; they never change what was learned."""
    async with Router(seed=1) as router:
        for wish in ("balanced", "quality", "cost", "speed"):
            decision = await router.route(Query(text=TEXT, preferences=Preferences.of(wish)))
            print(f"{wish:>9}: {decision.selected_model}")
        own = Preferences(quality=0.6, cost=0.4, latency=0.0, cost_scale_usd=0.01)
        decision = await router.route(Query(text=TEXT, preferences=own))
        print(f"{'own':>9}: {decision.selected_model}")


asyncio.run(main())

# Five lines, one model each: the dearer a preset makes money, the cheaper the model.
