"""Deciding among the deployments that LiteLLM itself would choose from, and no others."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import litellm
import pytest
from litellm import Router
from litellm.integrations.custom_logger import CustomLogger
from litellm.types.router import Deployment

from conduit.testing.local_provider import Fault, FaultKind, LocalProvider
from conduit_litellm import ConduitRoutingStrategy
from tests.litellm.conftest import Deploy, ask, served_by, until
from tests.litellm.oddities import ODD_INPUTS, ODD_MESSAGES


def routed(models: list[dict[str, Any]], **options: Any) -> tuple[Router, ConduitRoutingStrategy]:
    """Return a LiteLLM router with a strategy of ours."""
    given = {name: options.pop(name) for name in ("share_learning", "pool") if name in options}
    router = Router(model_list=models, **{"num_retries": 0, **options})
    return router, ConduitRoutingStrategy.setup_strategy(
        router, ConduitRoutingStrategy(seed=1, **given)
    )


async def ask_many(router: Router, group: str, n: int, **options: Any) -> Counter[str]:
    """Return how many of n requests each deployment served."""
    calls = [
        router.acompletion(model=group, messages=ask(f"Question {k}?"), **options) for k in range(n)
    ]
    return Counter(map(served_by, await asyncio.gather(*calls)))


@pytest.mark.parametrize("share_learning", [False, True])
async def test_requests_stay_in_their_group(
    provider: LocalProvider, deploy: Deploy, share_learning: bool
) -> None:
    """Of 30 requests to each of two groups, none is served by the other group's deployments."""
    models = [deploy("one", "gpt-4o", "one-a"), deploy("one", "gpt-4o-mini", "one-b"),
              deploy("two", "gpt-4o", "two-a"), deploy("two", "gpt-4o-mini", "two-b")]  # fmt: skip
    router, strategy = routed(models, share_learning=share_learning)
    with strategy:
        for group in ("one", "two"):
            served = await ask_many(router, group, 30)
            assert sum(served.values()) == 30
            assert all(name.startswith(group) for name in served)
        assert strategy.stats().fallbacks == 0


async def test_one_pool_serves_any_group(provider: LocalProvider, deploy: Deploy) -> None:
    """With pool="*" the best deployment of any group serves a request, as the README says."""
    dear = {"input_cost_per_token": 1e-3, "output_cost_per_token": 1e-3, "conduit_quality": 0.2}
    free = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "conduit_quality": 0.9}
    models = [deploy("dear", "gpt-4o", "d1", model_info=dear),
              deploy("free", "gpt-4o-mini", "f1", model_info=free)]  # fmt: skip
    router, strategy = routed(models, pool="*")
    with strategy:
        served = await ask_many(router, "dear", 30)
    assert served["f1"] > 20


async def test_a_deployment_in_cooldown_is_not_chosen(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """Once LiteLLM has put a deployment in cooldown, the healthy one serves everything."""
    best = {"conduit_quality": 0.95}
    models = [deploy("g", "gpt-4o-mini", "broken", model_info=best), deploy("g", "gpt-4o", "fine")]
    router, strategy = routed(models, allowed_fails=0, cooldown_time=60)
    provider.set_fault("gpt-4o-mini", Fault(FaultKind.SERVER_ERROR))
    with strategy:
        for k in range(40):
            try:
                await router.acompletion(model="g", messages=ask(f"first {k}"))
            except litellm.exceptions.InternalServerError:
                break
        await asyncio.sleep(0.1)
        before = provider.calls_by_model["gpt-4o-mini"]
        served = await ask_many(router, "g", 30)
    assert before > 0
    assert served == {"fine": 30}
    assert provider.calls_by_model["gpt-4o-mini"] == before


async def test_an_unknown_group_is_litellms_error(provider: LocalProvider, deploy: Deploy) -> None:
    """A group that does not exist raises what LiteLLM raises without us."""
    router, strategy = routed([deploy("g", "gpt-4o", "a")])
    with strategy, pytest.raises(litellm.BadRequestError, match="nobody"):
        await router.acompletion(model="nobody", messages=ask("hello"))


async def test_a_specific_deployment_is_served_by_itself(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """A request for a deployment's id goes there, and is no decision of ours."""
    router, strategy = routed([deploy("g", "gpt-4o", "a"), deploy("g", "gpt-4o-mini", "b")])
    with strategy:
        assert await ask_many(router, "b", 5) == {"b": 5}
        assert not strategy.stats().decisions


async def test_tags_filter_the_candidates(provider: LocalProvider, deploy: Deploy) -> None:
    """With LiteLLM's tag filter, a request with a tag reaches deployments of that tag alone."""
    models = [deploy("g", "gpt-4o", "paid", tags=["paid"]),
              deploy("g", "gpt-4o-mini", "free", tags=["free"])]  # fmt: skip
    router, strategy = routed(models, enable_tag_filtering=True)
    with strategy:
        assert await ask_many(router, "g", 10, metadata={"tags": ["paid"]}) == {"paid": 10}
        assert await ask_many(router, "g", 10, metadata={"tags": ["free"]}) == {"free": 10}


async def test_teams_keep_their_deployments(provider: LocalProvider, deploy: Deploy) -> None:
    """A team's own deployment is not given to another team."""
    models = [deploy("g", "gpt-4o", "ours", model_info={"team_id": "us"}),
              deploy("g", "gpt-4o-mini", "all")]  # fmt: skip
    router, strategy = routed(models)
    with strategy:
        other = {"user_api_key_team_id": "them"}
        assert await ask_many(router, "g", 10, metadata=other) == {"all": 10}


async def test_a_prompt_too_long_for_a_window_is_not_sent_there(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """LiteLLM's pre-call checks run before we choose."""
    windows = {"small": 10, "large": 10_000}
    models = [
        deploy("g", "gpt-4o", name, model_info={"max_input_tokens": size})
        for name, size in windows.items()
    ]
    router, strategy = routed(models, enable_pre_call_checks=True)
    long = ask("word " * 100)
    with strategy:
        calls = [router.acompletion(model="g", messages=long) for _ in range(10)]
        assert set(map(served_by, await asyncio.gather(*calls))) == {"large"}


async def test_fallbacks_and_retries_are_litellms(provider: LocalProvider, deploy: Deploy) -> None:
    """A failing group falls back to the next one; each attempt is its own decision."""
    provider.set_fault("gpt-4o-mini", Fault(FaultKind.SERVER_ERROR))
    models = [deploy("first", "gpt-4o-mini", "broken"), deploy("second", "gpt-4o", "fine")]
    router, strategy = routed(models, fallbacks=[{"first": ["second"]}], num_retries=1,
                              retry_after=0, disable_cooldowns=True)  # fmt: skip
    with strategy:
        response = await router.acompletion(model="first", messages=ask("hello"))
        assert served_by(response) == "fine"
        assert strategy.decision(response).selected_model == "fine"
        assert strategy.stats().decisions == {"broken": 2, "fine": 1}


@pytest.mark.parametrize("how", ["async", "sync", "streamed"])
async def test_a_retry_goes_to_another_deployment(
    threaded_provider: LocalProvider, deploy: Deploy, how: str
) -> None:
    """A request that the best deployment has failed is retried at the next one of its group."""
    threaded_provider.set_fault("gpt-4o-mini", Fault(FaultKind.SERVER_ERROR))
    best = {"conduit_quality": 0.99}
    models = [deploy("g", "gpt-4o-mini", "broken", model_info=best), deploy("g", "gpt-4o", "fine")]
    router, strategy = routed(models, num_retries=1, retry_after=0, disable_cooldowns=True)
    with strategy:
        for k in range(5):
            request: dict[str, Any] = {"model": "g", "messages": ask(f"Question {k}?")}
            if how == "sync":
                response = await asyncio.to_thread(router.completion, **request)
            elif how == "streamed":
                response = await router.acompletion(**request, stream=True)
                assert [chunk async for chunk in response]
            else:
                response = await router.acompletion(**request)
            assert served_by(response) == strategy.decision(response).selected_model == "fine"
            (excluded,) = strategy.decision(response).excluded or (None,)
            assert excluded is None or excluded.model == "broken"
        assert strategy.stats().decisions["broken"] >= 1
        assert strategy.stats().decisions["fine"] == 5


async def test_changes_of_the_model_list_are_followed(
    provider: LocalProvider, deploy: Deploy
) -> None:
    """An added deployment is chosen, a deleted one is not, and a replaced list takes over."""
    router, strategy = routed([deploy("g", "gpt-4o", "a")])
    with strategy:
        assert await ask_many(router, "g", 5) == {"a": 5}
        best = {"conduit_quality": 0.99}
        router.add_deployment(Deployment(**deploy("g", "gpt-4o-mini", "b", model_info=best)))
        assert (await ask_many(router, "g", 30))["b"] > 0
        router.delete_deployment("a")
        assert await ask_many(router, "g", 10) == {"b": 10}
        for pair in (("c", "d"), ("e", "f")):  # as many as before, too
            router.set_model_list([deploy("g", "gpt-4o", name) for name in pair])
            assert set(await ask_many(router, "g", 10)) <= set(pair)
            assert {arm.id for arm in strategy._seats[id(router)].pools["g"].router.models} == {
                *pair
            }
        assert strategy.stats().fallbacks == 0


async def test_a_failure_of_ours_is_never_a_failure_of_the_request(
    provider: LocalProvider, deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    """When deciding raises, LiteLLM's shuffle serves the request; it is counted, logged once."""

    class Broken:
        id, dim, blocking = "broken", 4, False

        def embed(self, texts: Any) -> Any:
            raise KeyboardInterrupt if texts is None else ValueError("no")

    router, strategy = routed([deploy("g", "gpt-4o", "a"), deploy("g", "gpt-4o-mini", "b")])
    strategy._analyzer = Broken()  # type: ignore[assignment]  # as broken as anything of ours can be
    with strategy:
        served = await ask_many(router, "g", 20)
    assert sum(served.values()) == 20
    assert strategy.stats().fallbacks == 20
    failures = [r for r in caplog.records if r.name == "conduit_litellm" and r.levelname == "ERROR"]
    assert len(failures) == 1


async def test_every_kind_of_call_is_routed(provider: LocalProvider, deploy: Deploy) -> None:
    """Embeddings and streams are decided like chats, and say which decision it was."""
    models = [deploy("g", "gpt-4o", "a"), deploy("g", "gpt-4o-mini", "b"),
              deploy("e", "text-embedding-3-small", "e1"),
              deploy("e", "text-embedding-3-small", "e2")]  # fmt: skip
    router, strategy = routed(models)
    with strategy:
        embedded = await router.aembedding(model="e", input=["one", "two"])
        assert embedded._hidden_params["conduit_decision_id"]
        stream = await router.acompletion(model="g", messages=ask("hello"), stream=True)
        assert [chunk async for chunk in stream]
        assert stream._hidden_params["conduit_decision_id"]
        assert sum(strategy.stats().decisions.values()) == 2


# What no server needs to answer is decided all the same.
ODD: list[Any] = [
    *ODD_MESSAGES,
    [],
    [{"role": "user", "content": "\ud800 lone"}],
    [{"role": "user", "content": "\x00"}],
]
DECIDED_INPUTS: list[Any] = [*ODD_INPUTS, [], None]


@pytest.mark.parametrize("how", ["async", "sync"])
async def test_odd_requests_are_all_decided(
    provider: LocalProvider, deploy: Deploy, how: str
) -> None:
    """A thousand odd requests get a deployment each, decided by us and not by the fallback."""
    router, strategy = routed([deploy("g", "gpt-4o", "a"), deploy("g", "gpt-4o-mini", "b")])
    odd = [{"messages": m} for m in ODD] + [{"input": i} for i in DECIDED_INPUTS]
    with strategy:
        for k in range(500):
            request = {"model": "g", "request_kwargs": {}, **odd[k % len(odd)]}
            if how == "sync":
                found = router.get_available_deployment(**request)
            else:
                found = await router.async_get_available_deployment(**request)
            assert found["model_info"]["id"] in {"a", "b"}
        assert strategy.stats().fallbacks == 0


async def test_odd_messages_are_served(provider: LocalProvider, deploy: Deploy) -> None:
    """Odd messages that the provider takes come back answered."""
    router, strategy = routed([deploy("g", "gpt-4o", "a"), deploy("g", "gpt-4o-mini", "b")])
    with strategy:
        for messages in ODD_MESSAGES[2:6]:
            response = await router.acompletion(model="g", messages=messages)
            assert response.choices[0].message.content is not None


async def test_what_a_callback_asks_is_a_request_of_its_own(
    threaded_provider: LocalProvider, deploy: Deploy
) -> None:
    """A callback of the user's may ask through the same router; both responses name their own."""

    class Judge(CustomLogger):
        asked: Any = None

        async def async_log_success_event(self, **_: Any) -> None:
            if self.asked is None:
                self.asked = "waiting"
                self.asked = await router.acompletion(model="judges", messages=ask("Right?"))

    models = [deploy("g", "gpt-4o", "a"), deploy("judges", "gpt-4o-mini", "b")]
    router, strategy = routed(models)
    judge = Judge()
    litellm.callbacks.append(judge)
    with strategy:
        response = await router.acompletion(model="g", messages=ask("hello"))
        await until(lambda: hasattr(judge.asked, "_hidden_params"), 15.0)
        assert strategy.decision(response).selected_model == "a"
        assert strategy.decision(judge.asked).selected_model == "b"
