"""Where a strategy sits in one LiteLLM router: what it replaced there, and how it decides."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from litellm.types.router import CustomRoutingStrategyBase

from conduit_litellm.feedback import DECISION_ID
from conduit_litellm.pools import Pool
from conduit_litellm.selection import select, select_async
from conduit_litellm.utils import Deployment, deployment_id

log = logging.getLogger("conduit_litellm")

REPLACED = (
    "get_available_deployment",
    "async_get_available_deployment",
    "async_function_with_fallbacks",
)

# The ids of the decisions made for the request that this task or thread is at, latest last.
_trip: ContextVar[list[str] | None] = ContextVar("conduit_litellm_trip", default=None)

Decide = Callable[..., Deployment]
MakePool = Callable[[str, Sequence[Deployment]], Pool]


class Seat(CustomRoutingStrategyBase):
    """The strategy of one LiteLLM router, with the pools of its groups."""

    def __init__(self, router: Any, decide: Decide, make_pool: MakePool) -> None:
        """Take over the router's last step; `decide` chooses, `make_pool` opens a group."""
        self.router = router
        self.pools: dict[str, Pool] = {}
        self._decide = decide
        self._make_pool = make_pool
        self._lock = threading.Lock()
        self._size = len(router.model_list)
        self._before = {name: router.__dict__.get(name) for name in REPLACED}
        self._ours: dict[str, Any] = {}

    def take(self) -> None:
        """Sit down: from now on the router asks here."""
        if hasattr(self.router, "set_custom_routing_strategy"):
            self.router.set_custom_routing_strategy(self)
        else:
            self.router.register_plugin(self)
        self.router.async_function_with_fallbacks = self._marking(
            self.router.async_function_with_fallbacks
        )
        self._ours = {name: self.router.__dict__.get(name) for name in REPLACED}

    def leave(self) -> None:
        """Give back what was replaced, unless somebody else has replaced it since."""
        for name, ours in self._ours.items():
            if ours is None or self.router.__dict__.get(name) is not ours:
                continue
            if self._before[name] is None:
                del self.router.__dict__[name]
            else:
                self.router.__dict__[name] = self._before[name]

    def _marking(self, original: Any) -> Any:
        """Return LiteLLM's way through retries and fallbacks, with our mark on what it returns."""

        async def async_function_with_fallbacks(*args: Any, **kwargs: Any) -> Any:
            if _trip.get() is not None:
                return await original(*args, **kwargs)  # a fallback of a request on its way
            trip: list[str] = []
            token = _trip.set(trip)
            try:
                response = await original(*args, **kwargs)
            finally:
                _trip.reset(token)
            hidden = getattr(response, "_hidden_params", None)
            if trip and isinstance(hidden, dict):
                hidden[DECISION_ID] = trip[-1]
            return response

        return async_function_with_fallbacks

    # LiteLLM's two questions ---------------------------------------------------------------

    def get_available_deployment(
        self,
        model: str,
        messages: Any = None,
        input: Any = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return a healthy deployment of the group, chosen by what was learned."""
        request = {"messages": messages, "input": input, "request_kwargs": request_kwargs}
        return select(
            self.router,
            self._chooser(request),
            model=model,
            specific_deployment=specific_deployment,
            **request,
        )

    async def async_get_available_deployment(
        self,
        model: str,
        messages: Any = None,
        input: Any = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return a healthy deployment of the group, chosen by what was learned."""
        kwargs: dict[str, Any] = {} if request_kwargs is None else request_kwargs
        request = {"messages": messages, "input": input, "request_kwargs": kwargs}
        return await select_async(
            self.router,
            self._chooser(request),
            model=model,
            specific_deployment=specific_deployment,
            **request,
        )

    def _chooser(self, request: Mapping[str, Any]) -> Any:
        def choose(group: str, healthy: Sequence[Deployment]) -> Deployment:
            return self._decide(self, group, healthy, **request)

        return choose

    # pools -------------------------------------------------------------------------------------

    def pool(self, name: str, deployments: Sequence[Deployment]) -> Pool:
        """Return the pool of that name; the first time, over these deployments."""
        with self._lock:
            if name not in self.pools:
                self.pools[name] = self._make_pool(name, deployments)
            if len(self.router.model_list) != self._size:
                self._follow()
            return self.pools[name]

    def _follow(self) -> None:
        """Let go of deployments that were deleted from the router."""
        listed = list(self.router.model_list)
        self._size = len(listed)
        ids = {i for d in listed if (i := deployment_id(d)) is not None}
        for pool in set(self.pools.values()):
            pool.keep_only(ids)

    def note(self, decision_id: str) -> None:
        """Remember a decision for the response that comes of it."""
        trip = _trip.get()
        if trip is not None:
            trip.append(decision_id)
