"""Answers on their way to a judge, and its scores on their way to the log."""

from __future__ import annotations

from functools import partial

from conduit.core.models import Feedback, RoutingDecision
from conduit.engines.router import Router
from conduit.evaluation.judge import Answered, ArbiterEvaluator, as_text
from conduit.service.requests import Request
from conduit.storage.base import Ack


class Judging:
    """Offers every answer to a judge; what it says is feedback that a user's opinion outranks."""

    def __init__(self, evaluator: ArbiterEvaluator, router: Router) -> None:
        """Let the judge keep its spend in the router's store, unless it has one of its own."""
        self.evaluator = evaluator
        self._router = router
        evaluator.bind(router.store, router.name)

    def offer(self, request: Request) -> None:
        """Offer an answer; returns at once, and never raises."""
        response = request.response
        if response is None:
            return
        said = response.text or ("" if request.data is None else as_text(request.data))
        item = Answered(
            decision_id=request.decision.id,
            model=response.model,
            prompt=request.query.text,
            answer=said,
        )
        self.evaluator.submit(item, partial(self._tell, request.decision, response.model))

    async def _tell(self, decision: RoutingDecision, model: str, score: float) -> Ack:
        feedback = Feedback(quality_score=score, source="judge", feedback_id=f"{decision.id}:judge")
        return await self._router.feedback(decision, feedback, model=model)
