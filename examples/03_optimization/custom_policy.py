"""A policy of your own: two halves, estimates and exploration, under a name."""

import asyncio
from functools import partial

from conduit import Query, Router, register_policy
from conduit.engines.bandits import BanditPolicy, LinUCBBandit
from conduit.engines.bandits.estimates import RidgeArms
from conduit.engines.bandits.explorations import Greedy


class Careful(BanditPolicy):
    """Ridge estimates with five percent of plain exploration."""

    name = "careful"

    def __init__(self, dim: int) -> None:
        """Pair the halves."""
        super().__init__(dim, RidgeArms(dim), Greedy(epsilon=0.05))


async def main() -> None:
    """Use it by name, and a ready policy with another constant."""
    register_policy("careful", Careful)
    for policy in ("careful", partial(LinUCBBandit, alpha=0.3)):
        async with Router(bandit_algorithm=policy, seed=1) as router:
            decision = await router.route(Query(text="What is 2+2?"))
            print(router.get_stats().policy, decision.selected_model)


asyncio.run(main())

# careful …
# linucb …
