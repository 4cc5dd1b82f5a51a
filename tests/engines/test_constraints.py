"""Constraints decide who may answer, and say so when they had to give way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conduit.core.errors import InvalidInput, NoEligibleModel
from conduit.core.models import ImplicitFeedback, ModelArm, Query, QueryConstraints
from conduit.engines.analyzer import Analyzer
from conduit.engines.router import Router

ARMS = [
    ModelArm("openai:small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, quality=0.60,
             output_tokens=200, latency_s=0.5, context_window=8_000),
    ModelArm("openai:large", input_usd_per_mtok=5.0, output_usd_per_mtok=20.0, quality=0.85,
             output_tokens=200, latency_s=3.0, context_window=128_000),
    ModelArm("anthropic:middle", input_usd_per_mtok=1.0, output_usd_per_mtok=5.0, quality=0.80,
             output_tokens=200, latency_s=1.0, context_window=200_000),
    ModelArm("acme:unpriced", quality=0.99, latency_s=0.1),
]  # fmt: skip


@pytest.fixture
def router() -> Router:
    """Give a router over four models that differ in every way."""
    return Router(ARMS, seed=1, environ={}, preferences="quality")


def candidates(router: Router, **limits: object) -> set[str]:
    """Return who may answer under the given limits."""
    query = Query(text="hello", constraints=QueryConstraints(**limits))  # type: ignore[arg-type]
    return set(router.route_sync(query).candidates)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_cost": 0.0005}, {"openai:small"}),
        ({"max_cost": 0.002}, {"openai:small", "anthropic:middle"}),
        ({"max_latency": 0.7}, {"openai:small", "acme:unpriced"}),
        ({"min_quality": 0.82}, {"openai:large", "acme:unpriced"}),
        ({"preferred_provider": "openai"}, {"openai:small", "openai:large"}),
        ({"preferred_provider": "OpenAI"}, {"openai:small", "openai:large"}),
        ({"preferred_provider": "openai-chat"}, {"openai:small", "openai:large"}),
        (
            {"max_cost": 0.002, "max_latency": 2.0, "min_quality": 0.7,
             "preferred_provider": "anthropic"},
            {"anthropic:middle"},
        ),
        (
            {"max_cost": 0.0005, "allow_unknown_cost": True},
            {"openai:small", "acme:unpriced"},
        ),
    ],
)  # fmt: skip
def test_only_models_that_keep_the_limits_are_candidates(
    router: Router, limits: dict[str, object], expected: set[str]
) -> None:
    """A model that breaks a limit, or whose cost is unknown under max_cost, is no candidate."""
    assert candidates(router, **limits) == expected
    assert not router.route_sync(
        Query(text="hello", constraints=QueryConstraints(**limits))  # type: ignore[arg-type]
    ).constraints_relaxed


def test_a_price_is_enough_before_the_first_call() -> None:
    """Under max_cost a priced model whose answers nobody has counted is judged by its price."""
    arms = [
        ModelArm("small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, quality=0.6),
        ModelArm("large", input_usd_per_mtok=10.0, output_usd_per_mtok=40.0, quality=0.9),
        ModelArm("unpriced", quality=0.9),
    ]
    query = Query(text="hello", constraints=QueryConstraints(max_cost=0.001))
    decision = Router(arms, seed=1, environ={}).route_sync(query)
    assert set(decision.candidates) == {"small"}
    assert not decision.constraints_relaxed


def test_every_excluded_model_says_why(router: Router) -> None:
    """The decision lists each model that was left out with its reason."""
    decision = router.route_sync(Query(text="hi", constraints=QueryConstraints(max_cost=0.0005)))
    reasons = {x.model: x.reason for x in decision.excluded}
    assert set(reasons) == {"openai:large", "anthropic:middle", "acme:unpriced"}
    assert "max_cost" in reasons["openai:large"]
    assert "unknown" in reasons["acme:unpriced"]


def test_a_limit_gives_way_by_a_fifth_at_a_time(router: Router) -> None:
    """With nobody under the limit, the least relaxation that lets somebody in is made, and said."""
    decision = router.route_sync(Query(text="hi", constraints=QueryConstraints(max_cost=5e-5)))
    assert decision.constraints_relaxed
    assert decision.selected_model == "openai:small"
    assert decision.relaxed[0].startswith("max_cost 5e-05 → ")
    new_limit = float(decision.relaxed[0].rsplit(" ", 1)[1])
    cost = decision.estimates["openai:small"].cost_usd
    assert cost is not None
    assert cost <= new_limit < 1.2 * cost * 1.001
    assert "relaxed" in decision.reasoning


def test_an_impossible_limit_is_dropped_but_the_provider_stays(router: Router) -> None:
    """A limit beyond reach still gives a decision, among the preferred provider's models."""
    limits = QueryConstraints(max_cost=0.0, preferred_provider="openai")
    decision = router.route_sync(Query(text="hi", constraints=limits))
    assert decision.relaxed == ("max_cost 0.0 → any",)
    assert decision.selected_model.startswith("openai:")


@pytest.mark.parametrize("max_cost", [0.0, 1e-12])
def test_an_unknown_cost_is_under_no_limit_however_far_it_gives_way(
    router: Router, max_cost: float
) -> None:
    """A model without a price stays out while any other is there, and comes in where it may."""
    assert "acme:unpriced" not in candidates(router, max_cost=max_cost)
    assert "acme:unpriced" in candidates(router, max_cost=max_cost, allow_unknown_cost=True)
    assert candidates(Router(ARMS[3:], seed=1, environ={}), max_cost=max_cost) == {"acme:unpriced"}


def test_a_limit_far_off_gives_way_as_little_as_it_can(router: Router) -> None:
    """A limit of a millionth of every price lets in the cheapest, not whoever is best."""
    assert candidates(router, max_cost=1e-11) == {"openai:small"}


def test_an_unknown_provider_is_dropped(router: Router) -> None:
    """A provider nobody has is relaxed away, and said."""
    decision = router.route_sync(
        Query(text="hi", constraints=QueryConstraints(preferred_provider="nobody"))
    )
    assert decision.relaxed == ("preferred_provider nobody → any",)


def test_strict_limits_raise_with_every_reason(router: Router) -> None:
    """With strict=True the error lists each model with its reason."""
    query = Query(text="hi", constraints=QueryConstraints(max_cost=1e-9, strict=True))
    with pytest.raises(NoEligibleModel) as caught:
        router.route_sync(query)
    assert set(caught.value.reasons) == {arm.id for arm in ARMS}


def test_a_long_prompt_leaves_out_small_windows() -> None:
    """A model whose context window is too small is no candidate, without any constraint."""
    router = Router(ARMS[:2], seed=1, environ={})
    decision = router.route_sync(Query(text="word " * 20_000))
    assert [x.model for x in decision.excluded] == ["openai:small"]
    assert "window" in decision.excluded[0].reason


@pytest.mark.parametrize("text", ["中" * 1_000_000, "👍" * 1_000_000])
def test_a_prompt_too_long_for_every_window_goes_to_the_widest(text: str) -> None:
    """It is routed, says that no window holds it, and is refused under strict=True."""
    router = Router(ARMS[:3], seed=1, environ={})
    decision = router.route_sync(text)
    assert decision.candidates == ("anthropic:middle",)
    assert decision.relaxed == ("context_window 200000 → any",)
    assert {x.model for x in decision.excluded} == {"openai:small", "openai:large"}
    with pytest.raises(NoEligibleModel, match="window"):
        router.route_sync(Query(text=text, constraints=QueryConstraints(strict=True)))


def test_a_prompt_too_long_for_who_is_there_goes_to_nobody_who_is_not() -> None:
    """A window gives way before a model is asked that is unavailable."""
    router = Router(ARMS[:3], seed=1, environ={})
    long, down = "word " * 150_000, {"anthropic:middle": "its breaker is open"}
    decision = router.route_sync(long, unavailable=down)
    assert decision.candidates == ("openai:large",)
    assert decision.relaxed == ("context_window 128000 → any",)
    everybody = router.route_sync(long, unavailable=dict.fromkeys(router.learner.models, "down"))
    assert everybody.candidates == ("anthropic:middle",)


def test_limits_hold_among_models_whose_window_gave_way() -> None:
    """The window and max_cost give way together, and each is named."""
    limits = QueryConstraints(max_cost=1e-3, preferred_provider="openai")
    decision = Router(ARMS[:3], seed=1, environ={}).route_sync(
        Query(text="中" * 1_000_000, constraints=limits)
    )
    assert decision.candidates == ("openai:large",)
    assert [each.split()[0] for each in decision.relaxed] == ["context_window", "max_cost"]


def test_learned_costs_decide_once_they_are_known() -> None:
    """A model that turns out to write ten times as much stops fitting under max_cost."""
    from conduit.core.models import ImplicitFeedback

    router = Router(ARMS[:1] + ARMS[2:3], seed=1, environ={}, floor=0.0)
    limits = QueryConstraints(max_cost=0.002)
    assert "anthropic:middle" in router.route_sync(Query(text="x", constraints=limits)).candidates

    async def teach() -> None:
        for i in range(30):
            decision = await router.route(Query(text=f"question {i}"))
            seen = ImplicitFeedback(signal="answered", output_tokens=4000, input_tokens=5)
            await router.feedback(decision, seen, model="anthropic:middle")

    import asyncio

    asyncio.run(teach())
    after = router.route_sync(Query(text="x", constraints=limits))
    assert after.candidates == ("openai:small",)


@pytest.mark.parametrize("bad", [{"max_cost": float("nan")}, {"max_cost": -1}, {"min_quality": 2}])
def test_limits_that_are_no_numbers_are_refused(bad: dict[str, float]) -> None:
    """NaN, negative and out-of-range limits never get in."""
    with pytest.raises(InvalidInput) as caught:
        QueryConstraints(**bad)  # type: ignore[arg-type]
    assert caught.value.field in bad


ANALYZER = Analyzer()


@settings(max_examples=30, deadline=None)
@given(
    max_cost=st.none() | st.floats(1e-7, 1e-2),
    max_latency=st.none() | st.floats(0.05, 10.0),
    min_quality=st.none() | st.floats(0.0, 1.0),
    provider=st.sampled_from([None, "openai", "anthropic", "acme"]),
    learned=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4_000)), max_size=6),
)
def test_a_limit_is_broken_only_by_a_decision_that_says_so(
    max_cost: float | None,
    max_latency: float | None,
    min_quality: float | None,
    provider: str | None,
    learned: list[tuple[int, int]],
) -> None:
    """With prior and with learned estimates, all four limits together hold, or are named."""
    router = Router(ARMS, seed=1, environ={}, floor=0.5, analyzer=ANALYZER)
    for arm, tokens in learned:
        decision = router.route_sync("hello")
        said = ImplicitFeedback(signal="answered", output_tokens=tokens, latency_s=tokens / 500)
        router.feedback_sync(decision, said, model=ARMS[arm].id)
    limits = QueryConstraints(
        max_cost=max_cost,
        max_latency=max_latency,
        min_quality=min_quality,
        preferred_provider=provider,
    )
    decision = router.route_sync(Query(text="hello", constraints=limits))
    chosen = decision.estimates[decision.selected_model]
    relaxed = {each.split()[0] for each in decision.relaxed}
    if max_cost is not None and "max_cost" not in relaxed:
        assert chosen.cost_usd is not None
        assert chosen.cost_usd <= max_cost * (1 + 1e-9)
    if max_latency is not None and "max_latency" not in relaxed and chosen.latency_s is not None:
        assert chosen.latency_s <= max_latency * (1 + 1e-9)
    if min_quality is not None and "min_quality" not in relaxed:
        assert chosen.quality >= min_quality * (1 - 1e-9)
    if provider is not None and "preferred_provider" not in relaxed:
        assert decision.selected_model.startswith(provider)


@pytest.mark.parametrize("limit", ["max_cost", "max_latency"])
def test_a_limit_that_no_number_is_above_gives_way_to_none(router: Router, limit: str) -> None:
    """Another limit that nobody keeps may be relaxed beside it."""
    constraints = QueryConstraints(**{limit: 1e300, "min_quality": 1.0})  # type: ignore[arg-type]
    decision = router.route_sync(Query(text="hello", constraints=constraints))
    assert decision.candidates
    assert any(said.startswith("min_quality") for said in decision.relaxed)
