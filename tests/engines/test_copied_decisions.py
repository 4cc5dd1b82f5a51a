"""A decision that is copied or pickled is the same decision, and takes nothing else along."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conduit.core.models import Feedback, Query
from conduit.engines.router import Router
from conduit.storage.database import open_store


def pickled(value: Any) -> Any:
    """Return what another process would be given."""
    return pickle.loads(pickle.dumps(value))


COPIES = pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])


@pytest.fixture(params=["memory", "sqlite"])
async def router(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Router]:
    """Give a router over each kind of store."""
    url = None if request.param == "memory" else f"sqlite:///{tmp_path / 'conduit.db'}"
    store = await open_store(url)
    async with Router(["a", "b", "c"], seed=1, environ={}, store=store, secret="s") as made:
        yield made
    await store.close()


async def test_a_pickled_decision_holds_only_its_own_data(router: Router) -> None:
    """Neither the key that signs receipts nor what others asked leaves the process with it."""
    for k in range(20):
        await router.route(Query(f"question {k}", user_id=f"other{k}@example.com"))
    data = pickle.dumps(await router.route(Query("hi", user_id="bob@example.com")))
    assert router._decided._secret not in data
    assert data.count(b"@example.com") == 1
    assert len(data) < 10_000


@COPIES
async def test_a_copied_decision_says_the_same(router: Router, copied: Any) -> None:
    """Every reading is that of the moment of the decision, whatever was learned meanwhile."""
    decision = await router.route(Query("hi", user_id="u", constraints={"max_cost": 1e-9}))
    early = copied(decision)
    await router.feedback(decision, Feedback(quality_score=0.0))
    for made in (early, copied(decision), copied(early)):
        assert made.estimates == decision.estimates
        assert (made.propensity, made.confidence) == (decision.propensity, decision.confidence)
        assert (made.candidates, made.receipt) == (decision.candidates, decision.receipt)
        assert (made.features, made.explain()) == (decision.features, decision.explain())


@COPIES
async def test_feedback_with_a_copy_is_feedback_on_the_decision(
    router: Router, copied: Any
) -> None:
    """A copy names the call that its decision does, here and where the secret is shared."""
    decision = await router.route("hi")
    made = copied(decision)
    for ref in (decision, made, made.receipt):
        await router.feedback(ref, Feedback(quality_score=0.5))
    assert router.learner.policy.seen().sum(axis=0)[0] == 1.0
    async with Router(["a", "b", "c"], environ={}, secret="s") as there:
        await there.feedback(made, Feedback(quality_score=0.5))
        await there.feedback(made.receipt, Feedback(quality_score=0.5))
        assert there.learner.policy.seen().sum(axis=0)[0] == 1.0
