"""Three ways to rate an answer, and three ways to name it."""

import asyncio

from conduit import ConflictingFeedback, Feedback, Query, Router


async def main() -> None:
    """Rate by decision, by id and by receipt; a repeated feedback id changes nothing."""
    async with Router(seed=1) as router:
        decision = await router.route(Query(text="Translate 'good morning' into Spanish."))
        first = Feedback(user_rating=5, feedback_id="f1")
        print((await router.feedback(decision, first)).status)
        print((await router.feedback(decision.id, first)).status)
        by_receipt = await router.feedback(decision.receipt, Feedback(met_expectations=False))
        print(by_receipt.status)
        try:
            await router.feedback(decision, Feedback(user_rating=1, feedback_id="f1"))
        except ConflictingFeedback as error:
            print(error)


asyncio.run(main())

# stored
# duplicate
# stored
# feedback id 'f1' was already used for another payload; give a changed opinion a new feedback_id
