"""Scores of an evaluator, away from the requests that they are about."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from conduit.evaluation.judge import Answered, ArbiterEvaluator, MinuteLog
from conduit_litellm.worker import Worker

Evaluate = Callable[[str, str], float | Awaitable[float | None] | None]
WAITING_AT_MOST = 1_000  # answers to score; more are left out, so that a slow judge holds no memory
CLOSE_S = 10.0


class Judging:
    """Scores answers with an `ArbiterEvaluator`, or with `(prompt, answer) -> score or None`.

    It runs in a thread of its own, so that neither a slow nor a failing evaluator touches a
    request. Which answers are worth a score, and what that may cost, is the evaluator's to say.
    """

    def __init__(self, evaluate: Evaluate | ArbiterEvaluator) -> None:
        """Ask `evaluate`."""
        self._evaluate = evaluate
        self._worker: Worker | None = None
        self._lock = threading.RLock()  # a score may fail at once, within the call that asks
        self._complain = MinuteLog(logging.getLogger("conduit_litellm"))
        self.failures = 0
        self.left_out = 0  # while too many waited

    def score(self, item: Answered, tell: Callable[[float], None]) -> None:
        """Score an answer some time soon, and tell the score if there is one."""
        with self._lock:
            if self._worker is None:
                self._worker = Worker()
            if self._worker.waiting >= WAITING_AT_MOST:
                self.left_out += 1
                return
            self._worker.submit(self._scored(item, tell)).add_done_callback(self._ended)

    async def _scored(self, item: Answered, tell: Callable[[float], None]) -> None:
        if isinstance(self._evaluate, ArbiterEvaluator):
            score = await self._evaluate.judge(item)
        else:
            found = self._evaluate(item.prompt, item.answer)
            score = await found if inspect.isawaitable(found) else found
        if score is not None:
            tell(float(score))

    def _ended(self, done: Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            with self._lock:
                self.failures += 1
                self._complain(f"The evaluator gave no score: {type(error).__name__}")

    def flush(self) -> None:
        """Finish what waits, within ten seconds, and stop the thread; a later answer starts one."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.flush(CLOSE_S)
        worker.cancel()
        if isinstance(self._evaluate, ArbiterEvaluator):
            worker.run(self._evaluate.release())
        worker.close()
