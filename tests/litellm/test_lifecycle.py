"""Setting up, letting go, setting up again; several at once; what survives a restart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import litellm
import pytest
from litellm import Router

from conduit import Router as ConduitRouter
from conduit.core.errors import ConduitError, ConfigurationError, UnknownDecision
from conduit.testing.local_provider import LocalProvider
from conduit_litellm import ConduitRoutingStrategy, extract_model_ids
from conduit_litellm.entry_points import core_of
from conduit_litellm.seat import REPLACED
from tests.litellm.conftest import Deploy, ask, credited, until


def callbacks_of(strategy: ConduitRoutingStrategy) -> list[str]:
    """Return the lists of LiteLLM's that hold a strategy's logger."""
    names = [name for name in vars(litellm) if name.endswith(("callback", "callbacks"))]
    lists = {name: getattr(litellm, name) for name in names}
    return [n for n, v in lists.items() if isinstance(v, list) and strategy._logger in v]


def left_in(router: Router) -> set[str]:
    """Return what of ours is left in a router or its core."""
    return {
        name
        for holder in (vars(router), vars(core_of(router)))
        for name in REPLACED
        if holder.get(name) is not None
    }


async def test_every_set_up_learns_and_every_cleanup_leaves_nothing(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """Set-up and cleanup in turn: each time it learns, and each time nothing of ours stays."""
    router = Router(model_list=[deploy("g", "gpt-4o", "a")])
    strategy = ConduitRoutingStrategy()
    for k in range(1, 5):
        ConduitRoutingStrategy.setup_strategy(router, strategy)
        await router.acompletion(model="g", messages=ask(f"hello {k}"))
        await until(lambda k=k: credited(strategy) == k)  # type: ignore[misc]
        strategy.cleanup()
        assert not callbacks_of(strategy)
        assert not left_in(router)
        response = await router.acompletion(model="g", messages=ask("without"))
        assert "conduit_decision_id" not in response._hidden_params


@pytest.mark.parametrize("last", [0, 1])
async def test_the_later_of_two_strategies_chooses(
    provider: LocalProvider, deploy: Deploy, last: int
) -> None:
    """A strategy takes another's place, and may take it back; what they leave is LiteLLM's own."""
    router = Router(model_list=[deploy("g", "gpt-4o", "a")])
    first, second = ConduitRoutingStrategy(), ConduitRoutingStrategy()
    for asked, strategy in enumerate([first, second, first, second, first], start=1):
        ConduitRoutingStrategy.setup_strategy(router, strategy)
        assert strategy.chooses_for(router)
        response = await router.acompletion(model="g", messages=ask("hello"))
        assert strategy.decision(response).selected_model == "a"
        assert (
            sum(s.stats().decisions["a"] for s in (first, second) if s.stats().decisions) == asked
        )
    assert not second.chooses_for(router)
    for strategy in (first, second) if last else (second, first):
        strategy.cleanup()
        assert not callbacks_of(strategy)
    assert not left_in(router)
    response = await router.acompletion(model="g", messages=ask("without"))
    assert "conduit_decision_id" not in response._hidden_params


async def test_routers_in_one_process_do_not_mix(provider: LocalProvider, deploy: Deploy) -> None:
    """Two routers with groups of one name, each with its strategy: each learns its own calls."""
    routers = [Router(model_list=[deploy("g", "gpt-4o", f"r{k}")]) for k in range(3)]
    strategies = [ConduitRoutingStrategy.setup_strategy(r) for r in routers]
    for k, router in enumerate(routers):
        for n in range(k + 1):
            await router.acompletion(model="g", messages=ask(f"hello {n}"))
    for k, strategy in enumerate(strategies):
        await until(lambda s=strategy, k=k: credited(s) == k + 1)  # type: ignore[misc]
        assert strategy.stats().credited == {f"r{k}": k + 1}
        strategy.cleanup()


@pytest.mark.parametrize("way", ["set_custom_routing_strategy", "register_plugin"])
async def test_litellms_own_way_of_setting_a_strategy_works(
    provider: LocalProvider, deploy: Deploy, way: str
) -> None:
    """Handing the strategy to the router is enough, each time; after cleanup it is gone."""
    if not hasattr(Router, way):
        pytest.skip(f"this release of LiteLLM has no {way}")
    router = Router(model_list=[deploy("g", "gpt-4o", "a"), deploy("g", "gpt-4o-mini", "b")])
    strategy = ConduitRoutingStrategy()
    for turn in range(1, 3):
        getattr(router, way)(strategy)
        for k in range(4):
            response = await router.acompletion(model="g", messages=ask(f"hello {k}"))
            assert strategy.decision(response).selected_model in {"a", "b"}
        await until(lambda turn=turn: credited(strategy) == 4 * turn)  # type: ignore[misc]
        strategy.cleanup()
        response = await router.acompletion(model="g", messages=ask("without"))
        assert "conduit_decision_id" not in response._hidden_params
        assert not callbacks_of(strategy)
        assert not left_in(router)


def test_synchronous_calls_need_no_loop(threaded_provider: LocalProvider, deploy: Deploy) -> None:
    """router.completion decides, and its response can be rated, without an event loop."""
    router = Router(model_list=[deploy("g", "gpt-4o", "a"), deploy("g", "gpt-4o-mini", "b")])
    with ConduitRoutingStrategy.setup_strategy(router) as strategy:
        response = router.completion(model="g", messages=ask("hello"))
        ack = strategy.record_feedback(response, quality_score=0.9)
        assert ack.status == "stored"
        assert strategy.decision(response).confidence > 0
        with pytest.raises(UnknownDecision):
            strategy.record_feedback("nobody made this", quality_score=0.9)


async def test_a_database_keeps_what_was_learned(
    provider: LocalProvider, deploy: Deploy, tmp_path: Path
) -> None:
    """What was rated before a restart is known after it."""
    url = f"sqlite+aiosqlite:///{tmp_path}/learned.db"
    models = [deploy("g", "gpt-4o", "a"), deploy("g", "gpt-4o-mini", "b")]
    for turn in range(2):
        router = Router(model_list=models)
        async with ConduitRoutingStrategy(database_url=url) as strategy:
            ConduitRoutingStrategy.setup_strategy(router, strategy)
            for k in range(3):
                response = await router.acompletion(model="g", messages=ask(f"{turn} {k}"))
                ack = await strategy.arecord_feedback(response, quality_score=0.2)
                assert ack.status == "stored"
            await until(lambda: credited(strategy) == 3)
            assert strategy.stats().lost == 0
            pool = next(iter(next(iter(strategy._seats.values())).pools.values()))
            assert pool.router.learner.applied >= 3 * (turn + 1)


async def test_a_router_of_ones_own_decides_for_all_groups(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """A given Conduit router keeps its settings, and learns the deployments as its models."""
    own = ConduitRouter(["openai:gpt-4o"], bandit_algorithm="epsilon_greedy")
    router = Router(model_list=[deploy("g", "gpt-4o", "a"), deploy("h", "gpt-4o-mini", "b")])
    async with ConduitRoutingStrategy(own) as strategy:
        ConduitRoutingStrategy.setup_strategy(router, strategy)
        for group in ("g", "h"):
            await router.acompletion(model=group, messages=ask("hello"))
        await until(lambda: credited(strategy) == 2)
    assert set(own.learner.models) == {"openai:gpt-4o", "a", "b"}


@pytest.mark.parametrize(
    "wrong",
    [{"algorithm": "linucb"}, {"use_hybird": True}],
)
def test_unknown_arguments_fail_at_construction(wrong: dict[str, object]) -> None:
    """A misspelt argument is named at once."""
    with pytest.raises(TypeError, match=next(iter(wrong))):
        ConduitRoutingStrategy(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"bandit_algorithm": "nobody"}, {"preferences": "nobody"}, {"pool": "g"}, {"window_size": 1},
     {"bandit_algorithm": "ucb1", "lambda_reg": 1.0}, {"lambda_reg": -1.0}],
)  # fmt: skip
def test_impossible_values_fail_at_construction(wrong: dict[str, object]) -> None:
    """A value that means nothing is refused at once."""
    with pytest.raises((ConduitError, ConfigurationError)):
        ConduitRoutingStrategy(**wrong)  # type: ignore[arg-type]


def test_extract_model_ids_names_every_deployment() -> None:
    """Ids are those of model_info, the model's name where there is none."""
    params = {"model": "openai/gpt-4o"}
    listed = [{"model_name": "g", "litellm_params": params, "model_info": {"id": "a"}},
              {"model_name": "g", "litellm_params": params}]  # fmt: skip
    assert extract_model_ids(listed) == ["a", "openai/gpt-4o"]
    assert len(set(extract_model_ids(Router(model_list=listed).model_list))) == 2


UNNEEDED = ("sqlalchemy", "redis", "pydantic_ai", "scipy", "sklearn", "torch", "alembic")


def test_importing_the_plugin_loads_nothing_that_waits_for_a_setting() -> None:
    """Databases, Redis and the like are imported by those who ask for them."""
    command = f"import sys, conduit_litellm; print([n for n in {UNNEEDED} if n in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert run.stdout.strip() == "[]"


async def test_the_lines_that_users_grep_for(
    provider: LocalProvider, deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    """A decision and its feedback are each told at INFO, what was learned of it at DEBUG."""
    router = Router(model_list=[deploy("g", "gpt-4o", "a")])
    with (
        caplog.at_level("DEBUG", "conduit_litellm"),
        ConduitRoutingStrategy.setup_strategy(router) as strategy,
    ):
        response = await router.acompletion(model="g", messages=ask("hello"))
        await until(lambda: credited(strategy) == 1)
        strategy.record_feedback(response, quality_score=0.9)
    told = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "conduit_litellm"]
    for level, line, times in (
        ("INFO", "Conduit selected a for g", 1),
        ("INFO", "Feedback recorded for a: ", 2),
        ("DEBUG", "Bandit updated for a ", 2),
    ):
        assert sum(at == level and text.startswith(line) for at, text in told) == times
