"""A rating outweighs what the call showed by itself, in whatever order the two arrive."""

import asyncio

from conduit import Feedback, ModelArm, Query, Router
from conduit.core.models import ImplicitFeedback


async def main() -> None:
    """The call looked fine; the user did not think so."""
    async with Router([ModelArm("acme:a"), ModelArm("acme:b")], seed=1) as router:
        decision = await router.route(Query(text="What is the boiling point of water?"))
        looked_fine = ImplicitFeedback(signal="no_error", quality=1.0, latency_s=0.8)
        for piece in (Feedback(user_rating=1), looked_fine):
            await router.feedback(decision, piece)
        again = await router.route(Query(text="What is the boiling point of water?"))
        for model, e in again.estimates.items():
            print(f"{model}: quality {e.quality:.2f}")


asyncio.run(main())

# acme:…: quality 0.32
# acme:…: quality 0.50
