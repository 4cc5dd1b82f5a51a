"""A stream that is read by a task of its own, so that who waits for a piece may stop waiting.

A tool that is a plain function runs in a thread that nothing can interrupt; whoever awaited the
stream itself would wait for it, long after the deadline.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Self

from conduit.engines.executor.base import Answer, AnswerStream
from conduit.engines.executor.leftovers import LEAVE_S, Leftovers, Overdue

END: Final = object()  # after the last piece


class Pump:
    """Reads a stream, one piece for each that is asked for; what does not end is left behind."""

    def __init__(
        self, opening: AbstractAsyncContextManager[AnswerStream], leftovers: Leftovers
    ) -> None:
        """Take a stream that is not open yet, and who owns what outlives it."""
        self._opening = opening
        self._leftovers = leftovers
        self._asked: asyncio.Queue[asyncio.Future[Any] | None] = asyncio.Queue()
        self._stream: AnswerStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_idle = True  # nobody waits for a piece

    async def __aenter__(self) -> Self:
        """Start to read when the first piece is asked for."""
        self._task = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the stream, or leave it behind where that takes too long."""
        assert self._task is not None
        if self._leftovers.owns(self._task):
            return
        self._asked.put_nowait(None)
        if not self._is_idle:
            self._task.cancel()
        await self._leftovers.ended(self._task, LEAVE_S)

    @property
    def answer(self) -> Answer[Any]:
        """Return the whole answer; only known once the pieces have ended."""
        if self._stream is None:
            raise RuntimeError("the answer is known once the pieces of the stream have ended")
        return self._stream.answer

    async def next(self, limit_s: float | None) -> Any:
        """Return the next piece, or END; raise what the stream raises, or Overdue."""
        assert self._task is not None
        piece = asyncio.get_running_loop().create_future()
        piece.add_done_callback(_seen)  # who asked may be gone
        self._is_idle = False
        self._asked.put_nowait(piece)
        await asyncio.wait([piece], timeout=limit_s)
        if piece.done():
            self._is_idle = True
            return piece.result()
        self._leftovers.abandon(self._task)
        raise Overdue

    async def _read(self) -> None:
        piece = await self._asked.get()
        try:
            if piece is None:
                return
            async with self._opening as self._stream:
                pieces = aiter(self._stream)
                while piece is not None:
                    _give(piece, await anext(pieces, END))
                    piece = await self._asked.get()
        except BaseException as error:
            if piece is None or piece.done():
                raise
            _fail(piece, error)


def _seen(asked: asyncio.Future[Any]) -> None:
    if not asked.cancelled():
        asked.exception()


def _give(asked: asyncio.Future[Any], piece: Any) -> None:
    if not asked.done():
        asked.set_result(piece)


def _fail(asked: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        asked.cancel()
    else:
        asked.set_exception(error)
