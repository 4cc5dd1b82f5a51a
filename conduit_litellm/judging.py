"""Scores of an evaluator, away from the requests that they are about."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from conduit_litellm.worker import Worker

log = logging.getLogger("conduit_litellm")

Evaluate = Callable[[str, str], float | Awaitable[float | None] | None]
WAITING_AT_MOST = 1_000  # answers to score; more are left out, so that a slow judge holds no memory


class Judging:
    """Scores answers with an evaluator, `(prompt, answer) -> score or None`, awaitable or not.

    It runs in a thread of its own, so that neither a slow nor a failing evaluator touches a
    request. Which answers are worth a score, and what that may cost, is the evaluator's to say.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        """Ask `evaluate`."""
        self._evaluate = evaluate
        self._worker: Worker | None = None
        self._lock = threading.Lock()
        self._failures = 0

    def score(self, prompt: str, answer: str, tell: Callable[[float], None]) -> None:
        """Score an answer some time soon, and tell the score if there is one."""
        with self._lock:
            if self._worker is None:
                self._worker = Worker()
            if self._worker.waiting < WAITING_AT_MOST:
                self._worker.submit(self._scored(prompt, answer, tell)).add_done_callback(
                    self._ended
                )

    async def _scored(self, prompt: str, answer: str, tell: Callable[[float], None]) -> None:
        found = self._evaluate(prompt, answer)
        score = await found if inspect.isawaitable(found) else found
        if score is not None:
            tell(float(score))

    def _ended(self, done: Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._failures += 1
            if self._failures == 1:
                log.warning("The evaluator raised %s; answers stay unscored", type(error).__name__)

    def flush(self) -> None:
        """Finish what waits, and stop the thread; a later answer starts another."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
