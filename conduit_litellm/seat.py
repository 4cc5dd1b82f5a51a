"""Where a strategy sits in one LiteLLM router: what it replaced there, and how it decides."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from litellm.types.router import CustomRoutingStrategyBase

from conduit_litellm.entry_points import (
    CALLS,
    calls_at_once_of,
    core_of,
    has_entry_points,
    model_list_of,
)
from conduit_litellm.feedback import DECISION_ID
from conduit_litellm.limits import Usage
from conduit_litellm.pools import Pool
from conduit_litellm.selection import select, select_async
from conduit_litellm.utils import Deployment, deployment_id

log = logging.getLogger("conduit_litellm")

# What a router or its core is given of ours: the strategy, and the way of a response.
REPLACED = ("get_available_deployment", "async_get_available_deployment",
            "_core_async_get_available_deployment", "_custom_strategy", *CALLS)  # fmt: skip

# What LiteLLM hands over instead of the prompt of an image, a speech and the like.
PLACEHOLDER = [{"role": "user", "content": "prompt"}]

LOOKUP_S = 0.5  # at most; RedisCache gives a lookup up much sooner


@dataclass(slots=True)
class _Request:
    """A request on its way through LiteLLM: its prompt if it has one, and our latest decision."""

    prompt: object = None
    decision_id: str | None = None
    tried: frozenset[str] = frozenset()  # LiteLLM asks again only where an attempt has failed
    has_ended: bool = False
    _leave: Callable[[], None] | None = None  # the deployment that is at it

    def go_to(self, usage: Usage, deployment: str, decision_id: str) -> None:
        """Note our decision, whose deployment is at it until the next one or the end."""
        if self.has_ended:  # this is a task that it has left behind
            return
        self._left()
        usage.begin(deployment)
        self._leave = partial(usage.end, deployment)
        self.decision_id = decision_id
        self.tried |= {deployment}

    def end(self) -> None:
        """Let go of the deployment."""
        self.has_ended = True
        self._left()

    def _left(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def mark(self, response: Any) -> Any:
        """Note the decision that a response came of, and return it."""
        hidden = getattr(response, "_hidden_params", None)
        if self.decision_id is not None and isinstance(hidden, dict):
            hidden[DECISION_ID] = self.decision_id
        return response


# The request that this task or thread is at.
_request: ContextVar[_Request | None] = ContextVar("conduit_litellm_request", default=None)


def _begun(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Request | None:
    """Return the request that a call of LiteLLM's begins; None for a fallback of one on its way."""
    on_its_way = _request.get()
    if on_its_way is not None and not on_its_way.has_ended:
        return None
    said = (kwargs, *(argument for argument in args if isinstance(argument, Mapping)))
    return _Request(next((told["prompt"] for told in said if "prompt" in told), None))


def _told(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a request, with its prompt where LiteLLM leaves that out."""
    told, on_its_way = dict(request), _request.get()
    if told["messages"] == PLACEHOLDER and on_its_way is not None:
        told["messages"] = on_its_way.prompt
    return told


def _owner(method: Any) -> Any:
    """Return the object of a method, which LiteLLM may have wrapped; None for anything else."""
    return getattr(inspect.unwrap(method), "__self__", None)


def _is_of(owner: object, value: Any) -> bool:
    """Return whether a value is the owner or a method of it."""
    return value is owner or _owner(value) is owner


Recall = Callable[..., Future[Any] | None]
Decide = Callable[..., Deployment]
MakePool = Callable[[str, Sequence[Deployment]], Pool]


class Seat(CustomRoutingStrategyBase):
    """The strategy of one LiteLLM router, with the pools of its groups."""

    def __init__(
        self, router: Any, strategy: Any, recall: Recall, decide: Decide, make_pool: MakePool
    ) -> None:
        """Take over the router's last step: `decide` chooses, `make_pool` opens a group.

        `recall` starts a lookup that deciding is better with, if there is one.
        """
        self.router = router
        self.pools: dict[str, Pool] = {}
        self._recall = recall
        self._decide = decide
        self._make_pool = make_pool
        self._lock = threading.Lock()
        self.usage = Usage(calls_at_once_of(router))
        self._size = len(model_list_of(router))
        self._strategy = strategy
        # A router may have a core, and may hold the same attribute itself.
        self._holders = [vars(router), vars(core_of(router))]
        self._before: list[dict[str, Any]] = []
        self._ours: list[dict[str, Any]] = []
        self.is_taken = False

    def take(self) -> None:
        """Sit down: from now on the router asks here, and no other strategy of ours."""
        self.is_taken = True
        for other in self._others():
            other.leave()
        self._before = [{name: h.get(name) for name in REPLACED} for h in self._holders]
        for held in self._before:
            for name, value in held.items():
                if _is_of(self._strategy, value):
                    held[name] = None  # set by the user, and to go with the strategy
        if has_entry_points(self.router):
            self.router.register_plugin(self)
        else:
            self.router.set_custom_routing_strategy(self)
        core = core_of(self.router)
        for name in CALLS:
            original = getattr(core, name, None)
            if original is not None:
                vars(core)[name] = self._marking(original)
        self._ours = [{name: h.get(name) for name in REPLACED} for h in self._holders]

    def _others(self) -> set[Seat]:
        """Return the seats of other strategies in the router."""
        held = [h[name] for h in self._holders for name in REPLACED if h.get(name) is not None]
        owners = {v if isinstance(v, Seat) else _owner(v) for v in held}
        return {owner for owner in owners if isinstance(owner, Seat) and owner is not self}

    def leave(self) -> None:
        """Give back what was replaced, unless somebody else has replaced it since."""
        self.is_taken = False
        for holder, before, ours in zip(self._holders, self._before, self._ours, strict=True):
            for name, mine in ours.items():
                value = holder.get(name)
                if value is None or (value is not mine and not _is_of(self, value)):
                    continue
                if before[name] is None and name != "_custom_strategy":
                    holder.pop(name, None)
                else:
                    holder[name] = before[name]

    def _marking(self, original: Any) -> Any:
        """Return LiteLLM's way through retries and fallbacks, with our mark on what it returns."""

        async def marked(*args: Any, **kwargs: Any) -> Any:
            request = _begun(args, kwargs)
            if request is None:
                return await original(*args, **kwargs)
            token = _request.set(request)
            try:
                return request.mark(await original(*args, **kwargs))
            finally:
                request.end()
                _request.reset(token)

        def marked_sync(*args: Any, **kwargs: Any) -> Any:
            request = _begun(args, kwargs)
            if request is None:
                return original(*args, **kwargs)
            token = _request.set(request)
            try:
                return request.mark(original(*args, **kwargs))
            finally:
                request.end()
                _request.reset(token)

        return marked if inspect.iscoroutinefunction(original) else marked_sync

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
        lookup = self._recall(**_told(request))
        if lookup is not None:  # the whole call holds this thread up anyway
            wait([lookup], LOOKUP_S)
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
        lookup = self._recall(**_told(request))
        if lookup is not None:
            await asyncio.wait([asyncio.wrap_future(lookup)], timeout=LOOKUP_S)
        return await select_async(
            self.router,
            self._chooser(request),
            model=model,
            specific_deployment=specific_deployment,
            **request,
        )

    def _chooser(self, request: Mapping[str, Any]) -> Any:
        def choose(group: str, healthy: Sequence[Deployment]) -> Deployment:
            return self._decide(self, group, healthy, **_told(request))

        return choose

    # pools -------------------------------------------------------------------------------------

    def pool(self, name: str, offered: Mapping[str, Deployment]) -> Pool:
        """Return the pool of that name, which knows the deployments that are offered, by id."""
        with self._lock:
            pool = self.pools.get(name)
            if pool is None:
                pool = self.pools[name] = self._make_pool(name, list(offered.values()))
            # A deployment that took another's place leaves their number as it was.
            if len(model_list_of(self.router)) != self._size or not pool.knows(offered):
                pool.add(offered.values())
                self._follow()
            return pool

    def _follow(self) -> None:
        """Let go of deployments that were deleted from the router."""
        listed = list(model_list_of(self.router))
        self._size = len(listed)
        ids = {i for d in listed if (i := deployment_id(d)) is not None}
        for pool in set(self.pools.values()):
            pool.keep_only(ids)

    def tried(self) -> frozenset[str]:
        """Return the deployments that have failed the request which this task or thread is at."""
        request = _request.get()
        return frozenset() if request is None or request.has_ended else request.tried

    def note(self, decision_id: str, deployment: str) -> None:
        """Remember a decision for the response that comes of it, and who is at it until then."""
        request = _request.get()
        if request is not None:
            request.go_to(self.usage, deployment, decision_id)
