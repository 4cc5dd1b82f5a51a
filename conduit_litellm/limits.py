"""What deployments have left of their limits: requests and tokens of a minute, calls at once.

LiteLLM's strategies that prefer one deployment to another (by usage, cost or latency) leave out
those whose `rpm` or `tpm` is used up, each by counts of its own that another strategy is not given;
and LiteLLM refuses calls beyond a deployment's `max_parallel_requests`, after it was chosen. So it
is counted here, by LiteLLM's rules: minutes are those of the clock, a request counts when it is
sent, tokens count when they are reported.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from litellm.utils import calculate_max_parallel_requests

from conduit_litellm.utils import Deployment

NAMES = frozenset(("rpm", "tpm", "max_parallel_requests"))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a deployment may be asked for; None is no limit."""

    rpm: float | None
    tpm: float | None
    at_once: float | None

    @classmethod
    def of(cls, deployment: Deployment, default_at_once: int | None) -> Limits:
        """Read a deployment's limits from where LiteLLM reads them."""
        params = deployment.get("litellm_params") or {}
        places = (deployment, params, deployment.get("model_info") or {})
        if default_at_once is None and all(NAMES.isdisjoint(place) for place in places):
            return cls(None, None, None)  # as most are, and each is asked before every decision
        at_once = calculate_max_parallel_requests(
            max_parallel_requests=_number(params, "max_parallel_requests"),  # type: ignore[arg-type]
            rpm=_number(params, "rpm"),  # type: ignore[arg-type]
            tpm=_number(params, "tpm"),  # type: ignore[arg-type]
            default_max_parallel_requests=default_at_once,
        )
        return cls(_first(places, "rpm"), _first(places, "tpm"), at_once or None)


class Usage:
    """What was asked of each deployment of a router, in this minute and at this moment."""

    def __init__(
        self, default_at_once: int | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """`default_at_once` limits the calls at once of a deployment that names no limit."""
        self.clock = clock
        self._default_at_once = default_at_once
        self._minute = 0
        self._requests: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._on_their_way: Counter[str] = Counter()
        self._lock = threading.Lock()

    def full(self, deployments: Mapping[str, Deployment]) -> dict[str, str]:
        """Return those that have reached a limit, each with the limit; none when all have.

        For then nobody has room, and whether a request is refused is LiteLLM's to say.
        """
        with self._lock:
            self._turn()
            reached = {
                name: limit
                for name, deployment in deployments.items()
                if (limit := self._reached(name, deployment)) is not None
            }
        return reached if len(reached) < len(deployments) else {}

    def _reached(self, name: str, deployment: Deployment) -> str | None:
        limits = Limits.of(deployment, self._default_at_once)
        for what, limit, used in (
            ("rpm", limits.rpm, self._requests[name]),
            ("tpm", limits.tpm, self._tokens[name]),
            ("max_parallel_requests", limits.at_once, self._on_their_way[name]),
        ):
            if limit is not None and used >= limit:
                return f"it has reached its {what} of {limit:g}"
        return None

    def ask(self, name: str) -> None:
        """Count a request."""
        with self._lock:
            self._turn()
            self._requests[name] += 1

    def spend(self, name: str, tokens: float) -> None:
        """Count the tokens of an answered request."""
        with self._lock:
            self._turn()
            self._tokens[name] += int(tokens)

    def begin(self, name: str) -> None:
        """Count a call as on its way, until `end`."""
        with self._lock:
            self._on_their_way[name] += 1

    def end(self, name: str) -> None:
        """Count a call as returned."""
        with self._lock:
            self._on_their_way[name] -= 1

    def _turn(self) -> None:
        minute = int(self.clock() // 60.0)
        if minute != self._minute:
            self._minute = minute
            self._requests.clear()
            self._tokens.clear()


def _first(places: tuple[Mapping[str, Any], ...], name: str) -> float | None:
    return next((n for place in places if (n := _number(place, name)) is not None), None)


def _number(place: Mapping[str, Any], name: str) -> float | None:
    value = place.get(name)
    return value if isinstance(value, int | float) and value >= 0 else None


__all__ = ["Limits", "Usage"]
