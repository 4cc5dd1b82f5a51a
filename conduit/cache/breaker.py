"""A circuit breaker: pure, so time is passed in.

| state     | what happens                               | next                                  |
|-----------|--------------------------------------------|---------------------------------------|
| closed    | a success                                  | closed; earlier failures still count  |
| closed    | fewer than `threshold` failures in a window | closed                               |
| closed    | `threshold` failures within `window_s`     | open                                  |
| closed    | a failure before anything ever succeeded   | open                                  |
| open      | a late result                              | open, unchanged                       |
| open      | the pause is over                          | half_open                             |
| half_open | `allows`, once per pause                   | half_open; the caller makes the trial |
| half_open | the trial fails                            | open, for twice as long               |
| half_open | the trial succeeds                         | closed                                |
"""

from __future__ import annotations

from collections import deque
from typing import Literal

CircuitState = Literal["closed", "open", "half_open"]


class CircuitBreaker:
    """Says whether a failing service may be called, and lets one trial through after each pause."""

    def __init__(
        self,
        *,
        threshold: int = 5,
        window_s: float = 10.0,
        pause_s: float = 0.25,
        longest_pause_s: float = 30.0,
    ) -> None:
        """Open after `threshold` failures in `window_s`; pauses double up to `longest_pause_s`."""
        self._failures: deque[float] = deque(maxlen=threshold)
        self._window_s = window_s
        self._shortest_pause_s = pause_s
        self._longest_pause_s = longest_pause_s
        self._pause_s = pause_s
        self._proven = False  # whether anything ever succeeded
        self._retry_at: float | None = None  # None: closed
        self._trying = False
        self._closed_at: float | None = None

    def state(self, now: float) -> CircuitState:
        """Return the state at a moment; asking changes nothing."""
        if self._retry_at is None:
            return "closed"
        return "half_open" if self._trying or now >= self._retry_at else "open"

    def allows(self, now: float) -> bool:
        """Whether to call: always when closed; when half open, once per pause, as the trial."""
        if self._retry_at is None:
            return True
        if now < self._retry_at:
            return False
        self._trying = True
        self._retry_at = now + self._pause_s  # a trial that never reports does not block for ever
        return True

    def failed(self, now: float) -> None:
        """Take in a call that failed."""
        if self._retry_at is None:
            self._failures.append(now)
            if self._is_too_much(now):
                self._open(now)
        elif self._trying:
            self._open(now)

    def succeeded(self, now: float) -> None:
        """Take in a call that succeeded."""
        if self._retry_at is None:
            self._proven = True
        elif self._trying:
            self._proven = True
            self._trying = False
            self._retry_at = None
            self._closed_at = now

    def _is_too_much(self, now: float) -> bool:
        full = len(self._failures) == self._failures.maxlen
        return not self._proven or (full and now - self._failures[0] <= self._window_s)

    def _open(self, now: float) -> None:
        """Open: for longer when the last time was not long ago, so that flapping dies down."""
        again = self._trying or (
            self._closed_at is not None and now - self._closed_at < self._longest_pause_s
        )
        wanted = self._pause_s * 2 if again else self._shortest_pause_s
        self._pause_s = min(wanted, self._longest_pause_s)
        self._retry_at = now + self._pause_s
        self._trying = False
        self._failures.clear()
