"""From what is said of an answer to a row of the log: whose answer it was, and what it weighs."""

from __future__ import annotations

from collections.abc import Callable

from conduit.core.errors import InvalidInput, unknown_name
from conduit.core.events import DecisionRecord
from conduit.core.models import Feedback, ImplicitFeedback, RoutingDecision
from conduit.engines.decided import Decided
from conduit.engines.intake import Intake
from conduit.engines.learner import Learner
from conduit.engines.rows import Weigher, row_of
from conduit.storage.base import Ack


class Hearing:
    """Takes feedback about decisions in, for one router."""

    def __init__(
        self,
        decided: Decided,
        intake: Intake,
        router: str,
        learner: Callable[[], Learner],
        clock: Callable[[], float],
    ) -> None:
        """Know decisions and answers from `decided`, models from the learner of the time."""
        self.weigher: Weigher | None = None
        self._decided = decided
        self._intake = intake
        self._router = router
        self._learner = learner
        self._clock = clock

    async def keep(
        self,
        decision: RoutingDecision | str,
        feedback: Feedback | ImplicitFeedback,
        model: str | None,
    ) -> Ack:
        """Return once it is in the log, of the model that answered or of another attempt's."""
        record, answered = await self._decided.find(decision)
        row = row_of(
            record,
            feedback,
            router=self._router,
            now=self._clock(),
            model=answered if model is None else self._attempted(model, record),
            weigher=self.weigher,
        )
        return await self._intake.append(row)

    def _attempted(self, model: str, record: DecisionRecord) -> str:
        """Return the model of another attempt, which must be one that anybody has heard of.

        That is a model of this router, one that it had or that the log tells of, or one that
        the decision weighed in another process.
        """
        learner = self._learner()
        known = (record.model, *learner.models, *record.estimates)
        if model not in known and not learner.knows(model):
            raise InvalidInput(
                unknown_name("model", model, tuple(dict.fromkeys(known))),
                field="model",
                expected="the model of an attempt",
                value=model,
            )
        return model


__all__ = ["Hearing"]
