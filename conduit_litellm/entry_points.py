"""LiteLLM's routers since 1.109: a facade over a core, which is reached by published entry points.

Such a router is asked for its healthy deployments; nothing of it is run in another shape. Two
things have no entry point yet and are reached by name: LiteLLM's own choice beside a plugin, and
the way of a response through the core, where it gets our mark.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from conduit_litellm.utils import Deployment

Choose = Callable[[str, Sequence[Deployment]], Deployment]
# Where routers of any kind run a call from its first attempt to its answer.
CALLS = ("async_function_with_fallbacks", "_drive", "_call_sync", "text_completion")


def has_entry_points(router: Any) -> bool:
    """Return whether a router is of this kind."""
    return hasattr(router, "register_plugin")


def core_of(router: Any) -> Any:
    """Return the object that does a router's work: its core, or itself."""
    return vars(router).get("_core", router)


def router_of(core: Any) -> Any:
    """Return the router that users hold, given the core that asks for it; None if it is no core."""
    owner = vars(core).get("_core_owner") if hasattr(core, "__dict__") else None
    return owner() if callable(owner) else None


def model_list_of(router: Any) -> Sequence[Deployment]:
    """Return the deployments of any router, the live list."""
    listed: Sequence[Deployment] = (
        router.registry().all() if has_entry_points(router) else router.model_list
    )
    return listed


def calls_at_once_of(router: Any) -> int | None:
    """Return how many calls any router sends at once to a deployment that names no limit."""
    place = router.settings() if has_entry_points(router) else router
    found: int | None = place.default_max_parallel_requests
    return found


def groups_of(router: Any) -> list[str]:
    """Return the names of any router's groups."""
    if has_entry_points(router):
        return list(router.registry().names(kind="group_set"))
    return list(router.model_names)


async def select_async(
    router: Any,
    choose: Choose,
    *,
    model: str,
    messages: Any = None,
    input: Any = None,
    specific_deployment: bool | None = False,
    request_kwargs: dict[str, Any] | None = None,
) -> Any:
    """Return the deployment that `choose` picks of those which LiteLLM would pick from."""
    kwargs: dict[str, Any] = {} if request_kwargs is None else request_kwargs
    asked = {"messages": messages, "input": input, "specific_deployment": specific_deployment}
    if kwargs.get("routing_strategy") is not None:
        return await _own_choice(core_of(router), model, kwargs, **asked)
    hook = await _hooked(router, model, kwargs, **asked)
    if hook is not None:
        model, asked["messages"] = hook.model, hook.messages
    return _chosen(choose, model, await router.select(model, kwargs, kind="healthy", **asked))


def select(
    router: Any,
    choose: Choose,
    *,
    model: str,
    messages: Any = None,
    input: Any = None,
    specific_deployment: bool | None = False,
    request_kwargs: dict[str, Any] | None = None,
) -> Any:
    """Return the deployment that `choose` picks of those which LiteLLM would pick from.

    As with LiteLLM's own synchronous calls, no hook of its sub-routers runs. Where the list cannot
    be had without waiting (the router keeps its state in Redis), LiteLLM chooses by itself.
    """
    kwargs: dict[str, Any] = {} if request_kwargs is None else request_kwargs
    asked = {"messages": messages, "input": input, "specific_deployment": specific_deployment}
    if kwargs.get("routing_strategy") is None:
        ready, healthy = at_once(router.select(model, kwargs, kind="healthy", **asked))
        if ready:
            return _chosen(choose, model, healthy)
    own = _beside_plugin(core_of(router))
    return type(own).get_available_deployment(own, model=model, request_kwargs=kwargs, **asked)


def _chosen(choose: Choose, model: str, healthy: Any) -> Any:
    """Return the choice; a deployment that was asked for by its id is listed by itself."""
    return healthy if isinstance(healthy, Mapping) else choose(model, healthy)


def at_once(work: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
    """Return whether a coroutine ends without waiting for anything, and its result if so."""
    try:
        work.send(None)
    except StopIteration as ended:
        return True, ended.value
    finally:
        work.close()
    return False, None


async def _hooked(router: Any, model: str, kwargs: dict[str, Any], **asked: Any) -> Any:
    """Run LiteLLM's sub-routers (by complexity, by meaning …), which may name another group."""
    from litellm.router_api import RoutingContext  # type: ignore[import-not-found,unused-ignore]

    return await RoutingContext(core_of(router)).pre_routing_hook(
        model=model, request_kwargs=kwargs, **asked
    )


async def _own_choice(core: Any, model: str, kwargs: dict[str, Any], **asked: Any) -> Any:
    """Return LiteLLM's choice, for a request that names one of LiteLLM's strategies."""
    own = _beside_plugin(core)
    return await type(own).select(own, model, kwargs, kind="pick", **asked)


@functools.cache
def _unplugged_class(core: Any) -> Any:
    """Return a kind of core that has no plugin, whatever the state says that it shares."""
    # Data descriptors come before the shared state, so the core itself keeps its plugin.
    members: dict[str, Any] = {"_custom_strategy": property(lambda self: None)}
    pick = vars(core).get("_core_async_get_available_deployment")
    if pick is not None:
        members[pick.__name__] = property(functools.partial(functools.partial, pick))
    return type(f"Unplugged{core.__name__}", (core,), members)


def _beside_plugin(core: Any) -> Any:
    """Return an object that shares a core's state and chooses as if there were no plugin."""
    core_class: Any = type(core)
    kind = _unplugged_class(core_class)
    own = kind.__new__(kind)
    object.__setattr__(own, "__dict__", core.__dict__)
    return own
