"""Deployments have limits: one that has reached its own is left out while another has room."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litellm
import pytest
from litellm import Router

from conduit.testing.local_provider import LocalProvider
from conduit_litellm import ConduitRoutingStrategy
from conduit_litellm.limits import Usage
from tests.litellm.conftest import Deploy, ask, credited, served_by, until

CALLS = 20
NOON = 1_000_000 * 60.0
BEST = {"conduit_quality": 0.99}  # chosen always, if it may be


def limited(
    models: list[dict[str, Any]], **options: Any
) -> tuple[Router, ConduitRoutingStrategy, Usage]:
    """Return a router whose minute does not end, its strategy, and what was used of its limits."""
    router = Router(model_list=models, **{"num_retries": 0, **options})
    strategy = ConduitRoutingStrategy(preferences="quality", seed=1)
    ConduitRoutingStrategy.setup_strategy(router, strategy)
    usage = strategy._seats[id(router)].usage
    usage.clock = lambda: NOON
    return router, strategy, usage


async def one_by_one(router: Router, strategy: ConduitRoutingStrategy) -> Counter[str]:
    """Ask, and wait for LiteLLM's report of each answer."""
    before, served = credited(strategy), Counter[str]()
    for k in range(CALLS):
        response = await router.acompletion(model="g", messages=ask(f"Question {k}?"))
        served[served_by(response)] += 1
        await until(lambda k=k: credited(strategy) > before + k)  # type: ignore[misc]
    return served


async def right_after_another(router: Router, calls: int) -> Counter[str]:
    """Ask, without waiting for LiteLLM's reports."""
    served = Counter[str]()
    for k in range(calls):
        response = await router.acompletion(model="g", messages=ask(f"Question {k}?"))
        served[served_by(response)] += 1
    return served


async def at_once(router: Router, strategy: ConduitRoutingStrategy) -> Counter[str]:
    """Ask everything at the same time."""
    calls = [router.acompletion(model="g", messages=ask(f"Question {k}?")) for k in range(CALLS)]
    return Counter(map(served_by, await asyncio.gather(*calls)))


WAYS = [one_by_one, at_once]
PLACES = [{"rpm": 5}, {"model_info": {**BEST, "rpm": 5}}]


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("place", PLACES)
async def test_requests_beyond_a_minutes_go_elsewhere(
    provider: LocalProvider, deploy: Deploy, ways: Any, place: dict[str, Any]
) -> None:
    """The best deployment takes as many as its `rpm` says; the other one all the rest."""
    models = [deploy("g", "gpt-4o", "best", **{"model_info": BEST, **place}),
              deploy("g", "gpt-4o-mini", "other")]  # fmt: skip
    router, strategy, usage = limited(models)
    with strategy:
        assert await ways(router, strategy) == {"best": 5, "other": CALLS - 5}
        usage.clock = lambda: NOON + 60.0
        assert (await ways(router, strategy))["best"] == 5
        assert strategy.stats().fallbacks == 0


async def test_the_decision_says_what_was_left_out(provider: LocalProvider, deploy: Deploy) -> None:
    """A deployment that has reached its limit is listed with the limit as its reason."""
    models = [deploy("g", "gpt-4o", "best", model_info=BEST, rpm=5),
              deploy("g", "gpt-4o-mini", "other")]  # fmt: skip
    router, strategy, _ = limited(models)
    with strategy:
        await one_by_one(router, strategy)
        last = await router.acompletion(model="g", messages=ask("And now?"))
        (excluded,) = strategy.decision(last).excluded
        assert (excluded.model, excluded.reason) == ("best", "it has reached its rpm of 5")


async def test_tokens_beyond_a_minutes_go_elsewhere(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """Once LiteLLM has reported as many tokens as `tpm` says, the other deployment serves."""
    models = [deploy("g", "gpt-4o", "best", model_info=BEST, tpm=60),
              deploy("g", "gpt-4o-mini", "other")]  # fmt: skip
    router, strategy, _ = limited(models)
    with strategy:
        served = await one_by_one(router, strategy)
    tokens = [r.input_tokens + r.output_tokens for r in provider.requests if r.model == "gpt-4o"]
    assert sum(tokens[:-1]) < 60 <= sum(tokens)
    assert served["other"] == CALLS - len(tokens) > 0


@pytest.mark.parametrize("limit", [{"max_parallel_requests": 3}, {"tpm": 501}])
async def test_no_more_calls_at_once_than_litellm_lets_through(
    provider: LocalProvider, deploy: Deploy, limit: dict[str, Any]
) -> None:
    """Of a burst a deployment gets what LiteLLM lets through; alone, each call is let through."""
    models = [deploy("g", "gpt-4o", "best", model_info=BEST, **limit),
              deploy("g", "gpt-4o-mini", "other")]  # fmt: skip
    router, strategy, usage = limited(models)
    with strategy:
        for minute in range(3):
            usage.clock = lambda minute=minute: NOON + 60.0 * minute  # type: ignore[misc]
            assert await at_once(router, strategy) == {"best": 3, "other": CALLS - 3}
        usage.clock = lambda: NOON + 600.0
        for k in range(5):
            response = await router.acompletion(model="g", messages=ask(f"Alone {k}?"))
            assert served_by(response) == "best"


async def test_calls_that_failed_leave_their_place(provider: LocalProvider, deploy: Deploy) -> None:
    """A call that fails, or that is given up, is no call on its way any more."""
    models = [deploy("g", "gpt-4o", "best", model_info=BEST, max_parallel_requests=1),
              deploy("g", "gpt-4o-mini", "other")]  # fmt: skip
    router, strategy, _ = limited(models, disable_cooldowns=True)
    with strategy:
        for k in range(3):
            with pytest.raises(litellm.InternalServerError):
                await router.acompletion(
                    model="g",
                    messages=ask(f"Fail {k}"),
                    mock_response="litellm.InternalServerError",
                )
            given_up = asyncio.ensure_future(
                router.acompletion(model="g", messages=ask(f"Wait {k}"), mock_delay=30.0,
                                   mock_response="late")
            )  # fmt: skip
            await asyncio.sleep(0.05)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            response = await router.acompletion(model="g", messages=ask(f"Now {k}"))
            assert served_by(response) == "best"


def test_threads_do_not_share_a_minutes_last_request(
    threaded_provider: LocalProvider, deploy: Deploy
) -> None:
    """Synchronous calls of many threads together stay within a deployment's `rpm`."""
    models = [deploy("g", "gpt-4o", "best", model_info=BEST, rpm=7),
              deploy("g", "gpt-4o-mini", "other")]  # fmt: skip
    router, strategy, _ = limited(models)

    def call(k: int) -> str:
        return served_by(router.completion(model="g", messages=ask(f"Question {k}?")))

    with strategy, ThreadPoolExecutor(8) as threads:
        served = Counter(threads.map(call, range(CALLS)))
    assert served == {"best": 7, "other": CALLS - 7}


async def test_when_none_has_room_all_are_offered(provider: LocalProvider, deploy: Deploy) -> None:
    """As with LiteLLM's shuffle a limit turns nobody away; what is beyond it is the provider's."""
    models = [deploy("g", "gpt-4o", name, rpm=2, max_parallel_requests=50) for name in "ab"]
    router, strategy, _ = limited(models)
    with strategy:
        assert sum((await at_once(router, strategy)).values()) == CALLS
        assert strategy.stats().fallbacks == 0


async def test_litellms_own_enforcement_turns_away_what_no_deployment_has_room_for(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """With `enforce_model_rate_limits` all that there is room for is served, no more."""
    models = [deploy("g", "gpt-4o", "a", rpm=3), deploy("g", "gpt-4o-mini", "b", rpm=4)]
    checks: Any = ["enforce_model_rate_limits"]
    router, strategy, _ = limited(models, optional_pre_call_checks=checks)
    with strategy:
        assert await right_after_another(router, 7) == {"a": 3, "b": 4}
        with pytest.raises(litellm.RateLimitError):
            await router.acompletion(model="g", messages=ask("One more?"))
        await until(lambda: credited(strategy) == 7)
        taught = [row for seat in strategy._seats.values() for pool in seat.pools.values()
                  for row in pool.router.store._feedback.values()]  # type: ignore[attr-defined]  # fmt: skip
    assert len(taught) == 7  # a refusal of LiteLLM's says nothing of a deployment


async def test_litellms_pre_call_checks_see_the_same_limits(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """With `enable_pre_call_checks` nobody is refused before every deployment is full."""
    models = [deploy("g", "gpt-4o", "a", rpm=3), deploy("g", "gpt-4o-mini", "b", rpm=4)]
    router, strategy, _ = limited(models, enable_pre_call_checks=True)
    with strategy:
        assert await right_after_another(router, 7) == {"a": 3, "b": 4}
