"""The strategy learns which deployment is right for what, and what siblings have in common."""

from __future__ import annotations

import pytest
from litellm import Router

from conduit.core.models import Feedback, ImplicitFeedback, Query
from conduit.testing.local_provider import LocalProvider, provider_questions
from conduit_litellm import ConduitRoutingStrategy
from tests.litellm.conftest import Deploy, ask, served_by

TOPICS = ("units", "dates")
REQUESTS = 300


async def test_two_topics_with_opposite_best_deployments(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """After 300 rated requests at least 80 % of each topic go to the deployment that knows it."""
    models = [deploy("g", f"{topic}-only", topic) for topic in TOPICS]
    router = Router(model_list=models, num_retries=0)
    strategy = ConduitRoutingStrategy(preferences="quality", seed=3)
    questions = provider_questions(TOPICS, n=REQUESTS + 100, seed=1)
    right: dict[str, list[bool]] = {topic: [] for topic in TOPICS}
    with ConduitRoutingStrategy.setup_strategy(router, strategy):
        for k, question in enumerate(questions):
            response = await router.acompletion(model="g", messages=ask(question.prompt))
            answer = response.choices[0].message.content
            good = provider.grade(question.prompt, answer)
            strategy.record_feedback(response, quality_score=float(good))
            if k >= REQUESTS:
                right[question.topic].append(served_by(response) == question.topic)
    shares = {topic: sum(r) / len(r) for topic, r in right.items()}
    assert min(shares.values()) >= 0.8, shares


async def test_deployments_of_one_model_share_a_part_of_what_was_learned(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """Bad ratings of one deployment lower its sibling too, by less; another model stays."""
    models = [deploy("g", "gpt-4o", "a1"), deploy("g", "gpt-4o", "a2"),
              deploy("g", "units-only", "other")]  # fmt: skip
    router = Router(model_list=models)
    strategy = ConduitRoutingStrategy(bandit_algorithm="random", seed=1)
    with ConduitRoutingStrategy.setup_strategy(router, strategy):
        pool = strategy._pool("g", models)
        offered = {str(d["model_info"]["id"]): d for d in models}
        decision = pool.decide(Query("What is a mile?"), offered)
        before = pool.router.learner.expect(decision.features.vector).prediction.quality.copy()
        for k in range(20):
            taught = pool.decide(Query(f"What is {k}?"), offered)
            pool.teach(taught, Feedback(quality_score=0.0), "a1")
        after = pool.router.learner.expect(decision.features.vector).prediction.quality
    fell = dict(zip(pool.router.learner.models, before - after, strict=True))
    assert 0.0 < fell["a2"] < fell["a1"]
    assert fell["other"] < fell["a2"]


@pytest.mark.parametrize("failed", [False, True])
async def test_a_failure_is_not_shared(
    provider: LocalProvider, deploy: Deploy, failed: bool
) -> None:
    """A deployment that fails says nothing about the same model elsewhere; an answer does."""
    models = [deploy("g", "gpt-4o", "a1"), deploy("g", "gpt-4o", "a2")]
    pool = ConduitRoutingStrategy(bandit_algorithm="random", seed=1)._pool("g", models)
    offered = {str(d["model_info"]["id"]): d for d in models}
    error = "server_error" if failed else None
    decision = pool.decide(Query("What is a mile?"), offered)
    pool.teach(decision, ImplicitFeedback(signal="x", quality=0.0, error=error), "a1")
    seen = dict(
        zip(pool.router.learner.models, pool.router.learner.policy.seen()[:, 0], strict=True)
    )
    assert seen["a1"] > 0.0
    assert (seen["a2"] == 0.0) == failed


async def test_a_window_forgets(provider: LocalProvider, deploy: Deploy) -> None:
    """With window_size=20, twenty good ratings after a hundred bad ones are believed."""
    models = [deploy("g", "gpt-4o", "a"), deploy("g", "units-only", "b")]
    offered = {str(d["model_info"]["id"]): d for d in models}
    quality = {}
    for window in (None, 20):
        pool = ConduitRoutingStrategy(window_size=window, seed=1)._pool("g", models)
        pool.router.learner.change_detection = False
        for score in [0.0] * 100 + [1.0] * 20:
            decision = pool.decide(Query("What is a mile?"), offered)
            pool.teach(decision, Feedback(quality_score=score), "a")
        expected = pool.router.learner.expect(decision.features.vector).prediction.quality
        quality[window] = expected[0]
    assert quality[20] > quality[None] + 0.2
