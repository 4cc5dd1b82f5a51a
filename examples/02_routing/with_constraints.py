"""Limits on cost, latency, quality and provider; and what happens when nobody keeps them."""

import asyncio

from conduit import NoEligibleModel, Query, QueryConstraints, Router


async def main() -> None:
    """Ask for cheap, for one provider, for the impossible, and for the impossible strictly."""
    limits = [
        QueryConstraints(max_cost=0.002),
        QueryConstraints(preferred_provider="anthropic"),
        QueryConstraints(max_cost=0.00001),
        QueryConstraints(max_cost=0.00001, strict=True),
    ]
    async with Router(seed=1) as router:
        for limit in limits:
            try:
                decision = await router.route(Query(text="Summarise this.", constraints=limit))
            except NoEligibleModel as error:
                print(f"strict: {len(error.reasons)} models, none eligible")
                continue
            print(decision.selected_model, "| relaxed:", decision.relaxed or "nothing")


asyncio.run(main())

# … | relaxed: nothing
# anthropic:claude-… | relaxed: nothing
# … | relaxed: ('max_cost 1e-05 → 0.0005521',)
# strict: 5 models, none eligible
