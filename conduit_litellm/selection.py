"""LiteLLM's own way to a deployment, with our choice in the place of its last step.

A custom strategy is handed neither the healthy deployments nor a way to ask for them without an
event loop. So the methods of LiteLLM's router run as they are, hooks and filters included, on an
object that shares the router's state and differs in one thing: its strategy is one that asks a
selector object, and that object is ours. Where a version of LiteLLM would ask nobody, it decides
by itself, and the request is served all the same.
"""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import litellm
from litellm.exceptions import BadRequestError
from litellm.router_strategy.simple_shuffle import simple_shuffle

from conduit_litellm import entry_points
from conduit_litellm.entry_points import Choose
from conduit_litellm.utils import Deployment

ASKS_A_SELECTOR = "least-busy"  # of LiteLLM's strategies the one that hands over nothing else


class Selector:
    """Answers LiteLLM's question, which of the healthy deployments it is to be."""

    def __init__(self, router: Any, choose: Choose) -> None:
        """Ask `choose` with the group's name and its healthy deployments."""
        self.router = router
        self._choose = choose

    def get_available_deployments(
        self, model_group: str, healthy_deployments: Sequence[Deployment], **_: object
    ) -> Deployment:
        """Return the chosen one of the healthy deployments."""
        return self._choose(model_group, healthy_deployments)

    async def async_get_available_deployments(
        self, model_group: str, healthy_deployments: Sequence[Deployment], **_: object
    ) -> Deployment:
        """Return the chosen one of the healthy deployments."""
        return self._choose(model_group, healthy_deployments)


class _Silent:
    """Takes LiteLLM's reports of how long its own step took, which are not sent on."""

    async def async_service_success_hook(self, **_: object) -> None:
        """Take a report."""


_SILENT = _Silent()


class _Asking:
    """What differs from the router: the strategy, and what that strategy asks."""

    __slots__ = ("_selector",)
    _selector: Selector

    # Data descriptors come before the shared state, so the router keeps the strategy it was given.
    routing_strategy = property(lambda self: ASKS_A_SELECTOR)
    leastbusy_logger = property(lambda self: self._selector)
    service_logger_obj = property(lambda self: _SILENT)

    def _get_routing_context(
        self, model: str, request_kwargs: dict[str, Any] | None = None
    ) -> tuple[str | None, Any]:
        """Return our selector, unless the request itself names another strategy."""
        router = self._selector.router
        wanted = getattr(router, "_get_request_routing_strategy_override", None)
        if wanted is not None and wanted(request_kwargs) is not None:
            context: tuple[str | None, Any] = router._get_routing_context(model, request_kwargs)
            return context
        return ASKS_A_SELECTOR, self._selector

    def print_deployment(self, deployment: Deployment) -> str:
        """Return what a log line says of a deployment, without a deep copy of it."""
        return str(deployment.get("model_name"))


@cache
def _asking_class(router_class: Any) -> Any:
    return type(f"Asking{router_class.__name__}", (_Asking, router_class), {})


def _asking(router: Any, choose: Choose) -> Any:
    kind = _asking_class(router.__class__)
    asking = kind.__new__(kind)
    asking.__dict__ = router.__dict__
    asking._selector = Selector(router, choose)
    return asking


def select(router: Any, choose: Choose, **request: Any) -> Any:
    """Return the deployment that `choose` picks of those which LiteLLM would pick from."""
    if entry_points.has_entry_points(router):
        return entry_points.select(router, choose, **request)
    return type(router).get_available_deployment(_asking(router, choose), **request)


async def select_async(router: Any, choose: Choose, **request: Any) -> Any:
    """Return the deployment that `choose` picks of those which LiteLLM would pick from."""
    if entry_points.has_entry_points(router):
        return await entry_points.select_async(router, choose, **request)
    asking = _asking(router, choose)
    return await type(router).async_get_available_deployment(asking, **request)


def shuffled(
    router: Any, model: str, healthy: Sequence[Deployment], request_kwargs: Mapping[str, Any] | None
) -> Deployment:
    """Return the deployment that LiteLLM's simple shuffle picks, by weight, rpm or tpm."""
    offered = {
        "llm_router_instance": router,
        "resolve_model_alias": lambda name: None,  # `model` is the name that the group itself has
        "healthy_deployments": list(healthy),
        "model": model,
        "request_kwargs": request_kwargs,
    }
    wanted = inspect.signature(simple_shuffle).parameters
    if not wanted.keys() <= offered.keys():
        return random.choice(healthy)
    picked: Deployment = simple_shuffle(**{name: offered[name] for name in wanted})
    return picked


def of_other_groups(
    router: Any, group: str, healthy: Sequence[Deployment], request_kwargs: Mapping[str, Any] | None
) -> list[Deployment]:
    """Return the healthy deployments of every other group that answer the same kind of call."""
    found: list[Deployment] = []
    kinds = {kind_of_call(d) for d in healthy}

    def take(_: str, offered: Sequence[Deployment]) -> Deployment:
        found.extend(d for d in offered if kind_of_call(d) in kinds)
        return offered[0]

    for other in entry_points.groups_of(router):
        if other != group:
            # LiteLLM takes marks out of what it is handed, and says "none is healthy" by raising.
            with contextlib.suppress(ValueError, BadRequestError):
                select(router, take, model=other, request_kwargs=dict(request_kwargs or {}))
    return found


def kind_of_call(deployment: Deployment) -> str:
    """Return what a deployment does: chat, embedding, image_generation …; chat where unsaid."""
    said = (deployment.get("model_info") or {}).get("mode")
    model = str(deployment["litellm_params"]["model"])
    for name in (model, model.partition("/")[2]):
        said = said or litellm.model_cost.get(name, {}).get("mode")
    return str(said or "chat")
