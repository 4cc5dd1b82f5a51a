"""The router: from a query to a decision, and from feedback to learning."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conduit.catalogue.models import complete_arm
from conduit.core.errors import ConfigurationError, InvalidInput, UnknownDecision
from conduit.core.models import Feedback, ImplicitFeedback, ModelArm, Preferences, Query, as_vector
from conduit.engines.router import Router

CHEAP = ModelArm(
    "a:cheap", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, quality=0.6, output_tokens=200
)
DEAR = ModelArm(
    "b:dear", input_usd_per_mtok=10.0, output_usd_per_mtok=40.0, quality=0.8, output_tokens=200
)


def router(**options: object) -> Router:
    """Return a seeded router over a cheap and a dear model."""
    return Router([CHEAP, DEAR], seed=3, environ={}, **options)  # type: ignore[arg-type]


async def test_no_key_routes_over_a_default_pool_and_says_so() -> None:
    """Without models and keys a decision is made all the same, and its reasoning tells."""
    async with Router(environ={}) as bare:
        decision = await bare.route(Query(text="What is 2+2?"))
        assert decision.selected_model in bare.learner.models
        assert "no provider key" in decision.reasoning
        assert 0.0 < decision.confidence <= 1.0
        assert 0.0 < decision.propensity <= 1.0
        assert decision.features.domain is not None


async def test_what_a_decision_saw_cannot_be_written_to() -> None:
    """The vector and the embedding of a decision lie over bytes, as those of any features do."""
    async with router() as r:
        seen = (await r.route(Query(text="What is 2+2?"))).features
        for vector in (seen.vector, seen.embedding):
            assert vector is not None
            assert as_vector(vector) is vector
            with pytest.raises(ValueError, match="WRITEABLE"):
                vector.setflags(write=True)


async def test_keys_in_the_environment_choose_the_models() -> None:
    """With one provider's key, only models of that provider are candidates."""
    async with Router(environ={"ANTHROPIC_API_KEY": "sk-secret"}) as own:
        assert {arm.provider for arm in own.models} == {"anthropic"}
        assert "sk-secret" not in repr(own)


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process stand in Tokyo, nine hours before UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("tokyo")
async def test_prices_are_those_of_the_day_in_utc() -> None:
    """Where December has begun and UTC still counts November, a model has November's price."""
    now = datetime(2026, 11, 30, 20, tzinfo=UTC).timestamp()
    changing = "google:gemini-4-argon"
    async with (
        Router([changing], environ={}, clock=lambda: now) as given,
        Router([CHEAP], environ={}, clock=lambda: now) as added,
    ):
        added.add_model(changing)
        november = complete_arm(ModelArm(changing), date(2026, 11, 30))
        assert given.models[0] == added.models[1] == november
        assert november != complete_arm(ModelArm(changing), date(2026, 12, 1))


def test_a_misspelt_argument_names_the_right_one() -> None:
    """`Router(modles=[...])` fails at once and names `models`."""
    with pytest.raises(TypeError, match="did you mean 'models'"):
        Router(modles=["gpt-4o-mini"])


@pytest.mark.parametrize(
    ("texts", "outcomes", "tasks", "field"),
    [
        ("ab", {"a:cheap": [0.5, 0.5]}, None, "texts"),
        (["a", "b"], {"a:cheap": [0.5, 0.5]}, ["summarise"], "tasks"),
        (["a"], [0.5], None, "outcomes"),
        (["a"], 0.5, None, "outcomes"),
        (["a"], {"a:dear": [0.5]}, None, "model"),
    ],
)
async def test_a_calibration_that_makes_no_sense_is_refused(
    texts: Any, outcomes: Any, tasks: Any, field: str
) -> None:
    """What is wrong is named, and nothing is learned."""
    r = router()
    with pytest.raises(InvalidInput) as refused:
        await r.fit(texts, outcomes, tasks=tasks)
    assert refused.value.field == field
    assert r.get_stats().outcomes == 0


@pytest.mark.parametrize("about", [None, 5, b"id"])
async def test_feedback_about_nothing_is_refused(about: Any) -> None:
    """Feedback is about a decision, its id or its receipt."""
    r = router()
    with pytest.raises(InvalidInput, match="about a decision, its id or its receipt"):
        r.feedback_sync(about, Feedback(quality_score=0.5))
    with pytest.raises(InvalidInput, match="about a decision, its id or its receipt"):
        await r.feedback(about, Feedback(quality_score=0.5))


@pytest.mark.parametrize("seed", [-1, 1.5, "one"])
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    """A seed that is no whole number is InvalidInput, at once."""
    with pytest.raises(InvalidInput, match="seed must be a whole number") as refused:
        Router([CHEAP, DEAR], seed=seed, environ={})
    assert refused.value.field == "seed"


@pytest.mark.parametrize("name", ["linnucb", "thomson"])
def test_an_unknown_policy_lists_the_known_ones(name: str) -> None:
    """The error names the nearest policy and all that exist."""
    with pytest.raises(ConfigurationError, match="contextual_thompson"):
        Router([CHEAP], bandit_algorithm=name, environ={})


async def test_rated_answers_change_the_choice() -> None:
    """A model that keeps failing its users is chosen less and less, a good one more."""
    async with router(preferences=Preferences(quality=1, cost=0.0, latency=0.0)) as r:
        for i in range(150):
            decision = await r.route(Query(text=f"question number {i}"))
            good = decision.selected_model == "a:cheap"
            await r.feedback(decision, Feedback(quality_score=0.9 if good else 0.2))
        late = [(await r.route(Query(text=f"late {i}"))).selected_model for i in range(50)]
        assert late.count("a:cheap") >= 45


async def test_feedback_by_object_id_and_receipt_is_the_same_call() -> None:
    """A decision, its id and its receipt name one call: the later opinion replaces the earlier."""
    async with router() as r:
        decision = await r.route("hello")
        for ref in (decision, decision.id, decision.receipt):
            await r.feedback(ref, Feedback(quality_score=0.5, feedback_id=None))
        seen = r.learner.policy.seen().sum(axis=0)
        assert seen[0] == 1.0


async def test_a_receipt_works_in_another_router_with_the_same_secret() -> None:
    """Feedback can be given where the decision was never seen."""
    async with router(secret="s3cret") as here, router(secret="s3cret") as there:
        decision = await here.route("hello")
        await there.feedback(decision.receipt, Feedback(user_rating=5))
        assert there.learner.policy.seen().sum(axis=0)[0] == 1.0
        async with router(secret="other") as stranger:
            with pytest.raises(UnknownDecision):
                await stranger.feedback(decision.receipt, Feedback(user_rating=5))


async def test_unknown_decisions_are_refused() -> None:
    """Feedback for a decision that was never made is a typed error."""
    async with router() as r:
        with pytest.raises(UnknownDecision):
            await r.feedback("no-such-decision", Feedback(user_rating=1))


async def test_a_fallbacks_outcome_teaches_its_own_model() -> None:
    """An attempt of another model of the same decision is that model's observation."""
    async with router() as r:
        decision = await r.route("hello")
        other = next(m for m in r.learner.models if m != decision.selected_model)
        await r.feedback(decision, ImplicitFeedback(signal="timeout", error="timeout"))
        await r.feedback(decision, ImplicitFeedback(signal="answered", latency_s=1.0), model=other)
        seen = dict(zip(r.learner.models, r.learner.policy.seen(), strict=True))
        assert seen[decision.selected_model].tolist() == [1.0, 0.0, 0.0]
        assert seen[other].tolist() == [0.0, 0.0, 1.0]


async def test_one_users_preferences_never_change_anothers_decisions() -> None:
    """Same seed, two users interleaved: whatever one prefers, the other's choices are the same."""

    async def mine(others: str) -> list[str]:
        async with router() as r:
            chosen = []
            for i in range(80):
                decision = await r.route(Query(text=f"mine {i}", user_id="me"))
                chosen.append(decision.selected_model)
                await r.feedback(decision, Feedback(quality_score=(i % 3) / 2))
                preferences = Preferences.of(others)
                await r.route(Query(text=f"theirs {i}", user_id="you", preferences=preferences))
            return chosen

    frugal = await mine("cost")
    assert await mine("quality") == frugal
    assert await mine("speed") == frugal


async def test_preferences_of_a_query_hold_for_that_query_alone() -> None:
    """Same seed, two users interleaved: what one weighs never shows in the other's utilities."""
    async with router(floor=0.0) as r:
        for i in range(20):
            thrifty = Query(text=f"q{i}", preferences=Preferences(quality=0.3, cost=0.7, latency=0))
            rich = Query(text=f"q{i}", preferences=Preferences(quality=1, cost=0, latency=0))
            cheap = await r.route(thrifty)
            dear = await r.route(rich)
            plain = await r.route(Query(text=f"q{i}"))
            assert cheap.selected_model == "a:cheap"
            assert dear.selected_model == "b:dear"
            for e in dear.estimates.values():
                assert e.utility == pytest.approx(e.quality, abs=0.02)
            assert plain.preferences == r.preferences


async def test_feedback_on_a_model_that_nobody_has_heard_of_is_refused() -> None:
    """A misspelt model is an error that names the known ones; a removed one still counts."""
    router = Router([ModelArm("acme:a"), ModelArm("acme:b")], seed=1)
    async with router:
        decision = await router.route(Query(text="hello"))
        for target in (decision, decision.id, decision.receipt):
            with pytest.raises(InvalidInput, match="acme:a"):
                await router.feedback(target, Feedback(quality_score=1.0), model="acme:c")
        with pytest.raises(InvalidInput):
            router.feedback_sync(decision, Feedback(quality_score=1.0), model="acme:c")
        router.remove_model("acme:b")
        ack = await router.feedback(decision, Feedback(quality_score=1.0), model="acme:b")
        assert ack.status != "capped"
        assert not router.learner.knows("acme:c")
        assert router.learner.knows("acme:b")


@pytest.mark.parametrize("models", ["gpt-4o-mini", ModelArm("gpt-4o-mini")])
def test_one_model_is_no_list_of_models(models: str | ModelArm) -> None:
    """A name in place of a list is refused, rather than taken for a list of letters."""
    with pytest.raises(ConfigurationError, match=r"models=\['gpt-4o-mini'\]"):
        Router(models, environ={})  # type: ignore[arg-type]


@pytest.mark.parametrize("query", [None, 3, b"hi", {"text": "hi"}])
async def test_what_is_no_query_is_refused(query: Any) -> None:
    """Whatever else stands where a query or a text should is `InvalidInput`."""
    router = Router([ModelArm("a"), ModelArm("b")], environ={})
    with pytest.raises(InvalidInput, match="text must be a string"):
        router.route_sync(query)
    with pytest.raises(InvalidInput, match="text must be a string"):
        await router.route(query)


async def test_models_come_and_go_and_learning_stays() -> None:
    """A removed model is never chosen; what was learned of it comes back with it."""
    async with router() as r:
        for i in range(30):
            decision = await r.route(f"q {i}")
            await r.feedback(decision, Feedback(quality_score=0.1), model="b:dear")
        before = r.learner.expect(decision.features.vector).prediction.quality.copy()
        r.remove_model("b:dear")
        chosen = {(await r.route(f"x {i}")).selected_model for i in range(20)}
        assert chosen == {"a:cheap"}
        r.add_model(DEAR)
        after = r.learner.expect(decision.features.vector).prediction.quality
        assert after == pytest.approx(before, abs=1e-6)


async def test_calibration_teaches_all_models_at_once() -> None:
    """`fit` with graded answers moves the choice without one routed query."""
    async with router(preferences=Preferences(quality=1, cost=0, latency=0)) as r:
        texts = [f"write python function number {i}" for i in range(40)]
        await r.fit(texts, {"a:cheap": np.ones(40), "b:dear": np.zeros(40)})
        assert (await r.route("write python function number 99")).selected_model == "a:cheap"


async def test_staying_with_a_conversations_model_is_worth_its_cached_prefix() -> None:
    """A long conversation stays on its model when the saved prefix outweighs the difference."""
    async with Router(TWINS, seed=1, environ={}, floor=0.0, preferences="cost") as r:
        context = {"prefix_tokens": 50_000}
        for i in range(20):
            query = Query(text=f"and then {i}?", previous_model="b:two", context=context)
            assert (await r.route(query)).selected_model == "b:two"


TWINS = [
    ModelArm("a:one", input_usd_per_mtok=5.0, output_usd_per_mtok=5.0, quality=0.7,
             output_tokens=100),
    ModelArm("b:two", input_usd_per_mtok=5.0, output_usd_per_mtok=5.0, quality=0.7,
             output_tokens=100),
]  # fmt: skip


@pytest.mark.parametrize("context", [{"prefix_tokens": 50_000}, {"reasoning_tokens": 20_000}])
async def test_what_switching_costs_is_weighed_and_not_a_rule(context: dict[str, int]) -> None:
    """Between twins the last model stays; a much better one is worth its dollars."""
    weights = Preferences(quality=1, cost=0.2, latency=0, cost_scale_usd=1.0)
    query = Query(text="and then?", previous_model="a:one", context=context)
    async with Router(TWINS, seed=1, environ={}, floor=0.0, preferences="cost") as r:
        assert {(await r.route(query)).selected_model for _ in range(20)} == {"a:one"}
    better = replace(TWINS[1], quality=0.99, quality_observations=1e4)
    arms = [replace(TWINS[0], quality=0.3, quality_observations=1e4), better]
    async with Router(arms, seed=1, environ={}, floor=0.0, preferences=weights) as r:
        assert {(await r.route(query)).selected_model for _ in range(20)} == {"b:two"}


async def test_a_conversation_is_remembered_by_its_id() -> None:
    """The router knows who answered last and how much was asked, and of how many it remembers."""
    async with Router(TWINS, seed=1, environ={}, floor=0.0, preferences="cost") as r:
        long = "word " * 3_000
        first = (await r.route(Query(text=long, conversation_id="c"))).selected_model
        later = [
            (await r.route(Query(text="and?", conversation_id="c"))).selected_model
            for _ in range(20)
        ]
        assert set(later) == {first}
        elsewhere = [
            (await r.route(Query(text="and?", conversation_id=str(i)))).selected_model
            for i in range(20)
        ]
        assert len(set(elsewhere)) == 2


@pytest.mark.parametrize("value", ["many", -1, float("nan")])
async def test_a_prefix_that_is_no_number_is_refused(value: object) -> None:
    """What the context says of the prefix is checked like any other number."""
    async with Router(TWINS, environ={}) as r:
        query = Query(text="x", previous_model="a:one", context={"prefix_tokens": value})
        with pytest.raises(InvalidInput) as caught:
            await r.route(query)
        assert caught.value.field == "prefix_tokens"


def test_route_sync_works_inside_and_outside_a_loop() -> None:
    """The same call, with and without a running event loop."""
    r = router()
    outside = r.route_sync("hello")

    async def inside() -> str:
        return r.route_sync("hello").selected_model

    assert outside.selected_model in r.learner.models
    assert asyncio.run(inside()) in r.learner.models


@settings(max_examples=60)
@given(
    st.text(st.characters() | st.characters(categories=["Cs", "Cc"]), min_size=1, max_size=300),
    st.sampled_from([1, 4_000, 100_000, 1_000_000]),
)
def test_every_text_routes(text: str, length: int) -> None:
    """NUL, surrogates, control characters, any script, up to a million: a decision comes out."""
    whole = (text * (length // len(text) + 1))[: max(length, len(text))]
    decision = SHARED.route_sync(Query(text=whole))
    assert np.isfinite(decision.features.vector).all()
    assert decision.features.degraded is None


SHARED = Router([CHEAP, DEAR], seed=3, environ={})


@pytest.mark.parametrize(
    "text",
    ["\0", "\ud800", "a" * 1_000_000, "\ud800" * 1_000, "א" * 5_000, "\x07\x1b[31m", " ", "🙂" * 9],
)
def test_odd_texts_route(text: str) -> None:
    """Extreme texts are routed like any other."""
    decision = SHARED.route_sync(Query(text=text))
    assert decision.selected_model in SHARED.learner.models


@pytest.mark.parametrize("text", ["", "a" * 1_000_001])
def test_no_text_and_too_much_text_are_refused(text: str) -> None:
    """Empty text and more than a million characters are InvalidInput that names the field."""
    with pytest.raises(InvalidInput) as caught:
        Query(text=text)
    assert caught.value.field == "text"


async def test_memory_stays_flat_without_feedback() -> None:
    """After the first 10,000, routes that never hear back leave no object behind.

    Python's own count of the blocks it holds; `benchmarks/analysis.py` has the whole process.
    """
    async with router(cache_enabled=True) as r:
        for i in range(10_000):
            r.route_sync(" ".join(f"{i} unique"))
        gc.collect()
        before = sys.getallocatedblocks()
        for i in range(10_000, 20_000):
            r.route_sync(" ".join(f"{i} unique"))
        gc.collect()
        assert sys.getallocatedblocks() - before < 1_000


async def test_explain_lists_every_model() -> None:
    """The explanation shows each candidate's estimates and each excluded model's reason."""
    async with router() as r:
        text = r.explain(await r.route("hello"))
        assert "a:cheap" in text
        assert "b:dear" in text
        assert "utility" in text


def test_threads_may_decide_while_others_teach() -> None:
    """What one thread reads of the learner, no other changes meanwhile."""
    r = Router([f"local/m{k}" for k in range(8)], seed=1)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def ask(who: int) -> int:
        for k in range(60):
            decision = r.route_sync(f"{who}: {k}")
            r.feedback_sync(decision, Feedback(quality_score=float(k % 2)))
        return who

    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(ask, range(4))) == [0, 1, 2, 3]
    finally:
        sys.setswitchinterval(before)
    assert r.get_stats().decisions == r.get_stats().outcomes == 240
