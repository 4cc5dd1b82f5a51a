"""The queries of each user in the last minutes, shared by replicas through Redis.

One list per user, which Redis itself forgets after the window. Whatever fails or takes longer than
30 ms is an empty history, and counted; while Redis keeps failing it is left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from struct import Struct
from typing import Any, Final
from zlib import crc32

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from conduit.cache.breaker import CircuitBreaker
from conduit.core.errors import ConfigurationError, InvalidInput, finite
from conduit.feedback.history import (
    MAX_PER_USER,
    HistoryStats,
    pack_trace,
    unpack_trace,
    user_key,
)
from conduit.feedback.retries import WINDOW_S, QueryTrace

PREFIX: Final = "conduit:q:"
TIMEOUT_S: Final = 0.030
# What a Redis that is away, slow, refusing or speaking nonsense shows through the client.
FAULTS: Final = (RedisError, OSError, ValueError, RecursionError, TimeoutError)

_CRC: Final = Struct("<I")


class RedisQueryHistoryTracker:
    """Keeps recent queries in Redis, for every replica; without Redis there is no history."""

    def __init__(
        self,
        url: str,
        *,
        window_s: float = WINDOW_S,
        max_per_user: int = MAX_PER_USER,
        prefix: str = PREFIX,
        timeout_s: float = TIMEOUT_S,
        breaker: CircuitBreaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check the address without connecting; a bad one is ConfigurationError."""
        self.window_s = finite(window_s, "window_s", low=0.0)
        self._max_per_user = int(finite(max_per_user, "max_per_user", low=1))
        self._prefix = prefix.encode()
        self._timeout_s = finite(timeout_s, "timeout_s", low=0.0)
        self._breaker = breaker or CircuitBreaker()
        self._clock = clock
        self._failures = 0
        self._redis = _client(url)

    async def add(self, trace: QueryTrace) -> None:
        """Remember a query; one without a user is not remembered."""
        if trace.user_id is None:
            return
        key = self._key(trace.user_id)
        pipe = self._redis.pipeline(transaction=False)
        pipe.lpush(key, _framed(key, pack_trace(trace)))
        pipe.ltrim(key, 0, self._max_per_user - 1)
        pipe.pexpire(key, max(1, round(self.window_s * 1000)))
        await self._answer(pipe.execute)

    async def recent(self, user_id: str | None, now: float) -> list[QueryTrace]:
        """Return the user's queries within the window before `now`, the latest first."""
        if user_id is None:
            return []
        key = self._key(user_id)
        rows = await self._answer(lambda: self._redis.lrange(key, 0, self._max_per_user - 1))
        traces = [self._read(key, row, user_id) for row in rows or ()]
        found = [t for t in traces if t is not None and 0.0 <= now - t.at_s <= self.window_s]
        return sorted(found, key=lambda trace: trace.at_s, reverse=True)

    async def forget(self, user_id: str) -> None:
        """Forget everything about a user, unless Redis fails."""
        key = self._key(user_id)
        await self._answer(lambda: self._redis.unlink(key))

    async def close(self) -> None:
        """Disconnect; Redis forgets by itself."""
        await self._redis.aclose()

    def stats(self) -> HistoryStats:
        """Return how often Redis failed; what it holds is not asked."""
        return HistoryStats(failures=self._failures)

    def _key(self, user_id: str) -> bytes:
        return self._prefix + user_key(user_id).hex().encode()

    async def _answer(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """Return what Redis answers in time; None after counting why there is nothing."""
        if not self._breaker.allows(self._clock()):
            self._failures += 1
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await command()
        except FAULTS:
            self._failures += 1
            self._breaker.failed(self._clock())
            return None
        self._breaker.succeeded(self._clock())
        return reply

    def _read(self, key: bytes, row: object, user_id: str) -> QueryTrace | None:
        """Return the trace in an entry; one that is not ours counts as a failure."""
        try:
            if isinstance(row, bytes) and row == _framed(key, row[_CRC.size :]):
                return unpack_trace(row[_CRC.size :], user_id)
        except InvalidInput:
            pass  # summed by a program that packs traces in another way
        self._failures += 1
        return None


def _framed(key: bytes, packed: bytes) -> bytes:
    """Return a packed trace with a sum over it and the key it belongs to."""
    return _CRC.pack(crc32(packed, crc32(key))) + packed


def _client(url: str) -> Redis:
    try:
        return Redis.from_url(
            url,
            protocol=2,
            socket_timeout=None,  # the only clock is `asyncio.timeout` around a command
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            client_name="conduit-history",
        )
    except (ValueError, TypeError, RedisError):
        # Not chained: what the client says may quote a part of the password.
        raise ConfigurationError(
            "redis_url is not the address of a Redis; expected something like "
            "redis://user:password@host:6379/0",
            field="redis_url",
        ) from None
