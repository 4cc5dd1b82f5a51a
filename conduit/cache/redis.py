"""Features shared through Redis, in front of which this process keeps its own memory.

One background task, the courier, owns the one connection. Lookups and writes wait in queues; the
courier sends all that wait in one exchange and hands out the replies. So a caller that is cancelled
never touches the connection, a burst costs one round trip, and the failures of Redis meet the
program in one place, `_judged`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any
from zlib import crc32

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError

from conduit.cache.base import TTL_S, CacheStats, MemoryCache, checked_ttl_s
from conduit.cache.breaker import CircuitBreaker
from conduit.core.errors import ConfigurationError, InvalidInput
from conduit.core.models import QueryFeatures
from conduit.loops import running_loop

logger = logging.getLogger("conduit.cache")

PREFIX = "conduit:f:"
TIMEOUT_S = 0.030
CONNECT_TIMEOUT_S = 1.0  # of a trial, which nobody waits for
CLEAR_TIMEOUT_S = 5.0  # of one step of `clear`
CLOSE_TIMEOUT_S = 1.0
MAX_WAITING = 512  # lookups; one more is a miss at once
MAX_UNWRITTEN = 512  # entries; one more is dropped
WRITES_PER_EXCHANGE = 64
LOG_EVERY_S = 60.0  # between two warnings

Command = tuple[str | bytes | int, ...]
Waiting = tuple[str, asyncio.Future[QueryFeatures | None]]

# What a Redis that is away, slow, refusing or speaking nonsense shows through the client: its
# parser lets ValueError out on a bad number, and nested replies can exhaust the stack.
FAULTS = (RedisError, OSError, ValueError, RecursionError)

_MAGIC = b"CFC1"
_CRC = struct.Struct("<I")
_HEAD_BYTES = len(_MAGIC) + _CRC.size


def frame(key: str, payload: bytes) -> bytes:
    """Return a payload as it lies in Redis: marked, and summed together with its key."""
    return _MAGIC + _CRC.pack(crc32(payload, crc32(key.encode()))) + payload


def unframe(key: str, raw: object) -> bytes | None:
    """Return the payload that `frame` was given for this very key, or None for anything else."""
    if (
        not isinstance(raw, bytes)
        or raw[:_HEAD_BYTES] != frame(key, raw[_HEAD_BYTES:])[:_HEAD_BYTES]
    ):
        return None
    return raw[_HEAD_BYTES:]


class _Wire:
    """One connection on which every reply goes to the exchange that asked for it."""

    def __init__(self, url: str) -> None:
        self._connection, self.location = _connection(url)

    async def exchange(self, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        """Send commands in one write and return their replies, in order and in time."""
        connection = self._connection
        try:
            # The only clock: the client's own socket timeouts wrap each write into
            # `asyncio.wait_for`, which loses cancellations on Python 3.11.
            async with asyncio.timeout(timeout_s):
                await connection.send_packed_command(connection.pack_commands(commands))
                replies = [await connection.read_response() for _ in commands]
            if not all(map(_fits, commands, replies)):
                raise InvalidResponse("a reply of the wrong shape")
        except BaseException:
            # Replies may still be on their way, and the next exchange must not read them.
            await self.disconnect()
            raise
        return replies

    async def disconnect(self) -> None:
        """Let go of the socket; the next exchange opens another one."""
        await self._connection.disconnect(nowait=True)


def _connection(url: str) -> tuple[AbstractConnection, str]:
    """Return a connection that is not open yet, and where it leads, without the password."""
    try:
        pool = ConnectionPool.from_url(
            url,
            protocol=2,  # one way for old and new clients; 3 adds a handshake and push messages
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            client_name="conduit-cache",
        )
        connection = pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, RedisError):
        # Not chained: what the client says may quote a part of the password.
        raise ConfigurationError(
            "redis_url is not the address of a Redis; expected something like "
            "redis://user:password@host:6379/0 (percent-encode special characters), "
            "rediss://… or unix://…",
            field="redis_url",
        ) from None
    options = pool.connection_kwargs
    host = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return connection, f"{host}/{options.get('db', 0)}"


def _fits(command: Command, reply: object) -> bool:
    """Whether a reply has the shape that a command gets when the two belong together."""
    if command[0] == "MGET":
        return isinstance(reply, list) and len(reply) == len(command) - 1
    return command[0] != "SET" or reply == b"OK"


class RedisCache:
    """Remembers in this process and in Redis; without Redis, only in this process.

    A lookup waits for at most the exchange under way and its own, `timeout_s` each, and not at all
    while the circuit is open. Of several event loops that run at once, the first has Redis.
    """

    def __init__(
        self,
        url: str,
        ttl_s: float = TTL_S,
        prefix: str = PREFIX,
        timeout_s: float = TIMEOUT_S,
        *,
        memory: MemoryCache | None = None,
        breaker: CircuitBreaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check the address without connecting; a bad one is ConfigurationError."""
        self._url = url
        self._ttl_ms = max(1, round(checked_ttl_s(ttl_s) * 1000))
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._memory = memory or MemoryCache(ttl_s=ttl_s, clock=clock)
        self._breaker = breaker or CircuitBreaker()
        self._clock = clock
        self._wire = _Wire(url)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._courier: asyncio.Task[None] | None = None
        self._waiting: list[Waiting] = []
        self._unwritten: dict[str, QueryFeatures] = {}
        self._hits = self._errors = self._dropped_writes = 0
        self._told_at: float | None = None
        self._is_told = False  # that Redis is away
        self._closed = False

    def __repr__(self) -> str:
        """Show where it leads, without the password."""
        return f"RedisCache({self._wire.location!r}, prefix={self._prefix!r})"

    def get_now(self, key: str) -> QueryFeatures | None:
        """Return what this process remembers; Redis is not asked."""
        return self._memory.get_now(key)

    async def get(self, key: str) -> QueryFeatures | None:
        """Return what this process remembers, else what Redis answers in time."""
        found = self._memory.get_now(key)
        if found is not None or not self._is_up() or len(self._waiting) >= MAX_WAITING:
            return found
        reply: asyncio.Future[QueryFeatures | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, reply))
        self._wake()
        return await reply

    def put(self, key: str, features: QueryFeatures) -> None:
        """Remember, and have Redis told in the background unless it is away or far behind."""
        self._memory.put(key, features)
        if not self._is_up() or len(self._unwritten) >= MAX_UNWRITTEN:
            self._dropped_writes += 1
            return
        self._unwritten[key] = features
        self._wake()

    async def clear(self) -> bool:
        """Forget everything here and every key with our prefix in Redis; False if Redis failed."""
        self._unwritten.clear()
        if self._courier is not None and self._loop is asyncio.get_running_loop():
            # A write under way must not outlive the clearing.
            await asyncio.wait([self._courier], timeout=self._timeout_s)
        await self._memory.clear()
        wire = _Wire(self._url)
        try:
            await self._unlink_all(wire)
        except FAULTS as error:
            self._errors += 1
            logger.warning("could not clear Redis at %s (%s)", wire.location, _kind(error))
            return False
        finally:
            await wire.disconnect()
        return True

    def stats(self) -> CacheStats:
        """Return the counts so far; a hit in Redis was a miss of this process first."""
        memory = self._memory.stats()
        return CacheStats(
            backend="redis",
            hits=memory.hits + self._hits,
            misses=memory.misses - self._hits,
            size=memory.size,
            errors=self._errors,
            dropped_writes=self._dropped_writes,
            circuit_state=self._breaker.state(self._clock()),
        )

    async def close(self) -> None:
        """Let the courier finish, for a second at most, and disconnect; memory goes on working."""
        self._closed = True
        if self._loop is not asyncio.get_running_loop():
            return
        if self._courier is not None:
            _, unfinished = await asyncio.wait([self._courier], timeout=CLOSE_TIMEOUT_S)
            for courier in unfinished:
                courier.cancel()
                await asyncio.wait(unfinished)
        await self._wire.disconnect()

    def _is_up(self) -> bool:
        """Whether to use Redis now; a trial that is due starts, and nobody waits for it."""
        if self._closed or not self._owns_loop():
            return False
        state = self._breaker.state(self._clock())
        if state == "half_open":
            self._wake()
        return state == "closed"

    def _owns_loop(self) -> bool:
        """Whether the running event loop is ours; we take it over when ours has ended."""
        loop = running_loop()
        if loop is None or loop is self._loop:
            return loop is not None
        if self._loop is not None and self._loop.is_running():
            return False
        if self._loop is not None:
            self._wire = _Wire(self._url)  # the old connection ended with its loop
        self._loop, self._courier = loop, None
        self._waiting, self._unwritten = [], {}
        return True

    def _wake(self) -> None:
        """Start the courier, unless it is at work."""
        if self._courier is None or self._courier.done():
            self._courier = asyncio.get_running_loop().create_task(
                self._serve(), name="conduit-cache"
            )

    async def _serve(self) -> None:
        """Be the courier: exchange what waits, make a trial that is due, and end when idle."""
        try:
            while True:
                state = self._breaker.state(self._clock())
                if state == "closed" and (self._waiting or self._unwritten):
                    await self._deliver()
                elif state == "half_open" and self._breaker.allows(self._clock()):
                    await self._try_out()
                else:
                    return
        finally:
            self._give_up()

    async def _deliver(self) -> None:
        """Send the writes, ask for every key that waits, and hand out the answers."""
        waiting, self._waiting = self._waiting, []
        writes = [(key, self._unwritten.pop(key)) for key in self._next_writes()]
        commands = [self._set(key, features.to_bytes()) for key, features in writes]
        if waiting:
            commands.append(self._mget([key for key, _ in waiting]))
        try:
            exchange = self._wire.exchange(commands, self._timeout_s)
            replies = await self._judged(exchange, weight=len(waiting) + len(writes))
            if replies is not None and waiting:
                for (key, reply), raw in zip(waiting, replies[-1], strict=True):
                    self._answer(key, reply, raw)
        finally:
            _answer_none(waiting)

    def _next_writes(self) -> list[str]:
        return list(islice(self._unwritten, WRITES_PER_EXCHANGE))

    def _answer(self, key: str, reply: asyncio.Future[QueryFeatures | None], raw: object) -> None:
        """Give one caller, if it still waits, what Redis had for its key."""
        features = self._read(key, raw)
        if features is not None:
            self._memory.put(key, features)
        if not reply.done():
            self._hits += features is not None
            reply.set_result(features)

    def _read(self, key: str, raw: object) -> QueryFeatures | None:
        """Return the features in an entry; one that is not ours counts as an error."""
        if raw is None:
            return None
        payload = unframe(key, raw)
        try:
            if payload is not None:
                return QueryFeatures.from_bytes(payload)
        except InvalidInput:
            pass  # summed by a program that packs features in another way
        self._errors += 1
        return None

    async def _judged(self, exchange: Awaitable[list[Any]], *, weight: int) -> list[Any] | None:
        """Return what Redis replied, or None after counting why there is nothing."""
        try:
            replies = await exchange
        except FAULTS as error:
            self._failed(error, weight)
            return None
        self._breaker.succeeded(self._clock())
        return replies

    async def _try_out(self) -> None:
        """Let the circuit close if Redis serves again."""
        served = await self._judged(self._trial(), weight=1)
        if served is not None and self._is_told:
            self._is_told = False
            logger.info("Redis at %s serves again", self._wire.location)

    async def _trial(self) -> list[Any]:
        """Write and read an entry of our own; a Redis that only says PONG does not serve."""
        await self._wire.exchange([("PING",)], CONNECT_TIMEOUT_S)
        commands = [self._set("trial", b""), self._mget(["trial"])]
        replies = await self._wire.exchange(commands, self._timeout_s)
        if replies[-1] != [frame("trial", b"")]:
            raise InvalidResponse("another value than was written")
        return replies

    def _failed(self, error: BaseException, weight: int) -> None:
        """Count every lookup and write of a failed exchange; to the breaker it is one failure."""
        now = self._clock()
        was_trial = self._breaker.state(now) == "half_open"
        self._errors += weight
        self._breaker.failed(now)
        # A time-out may be our own, of a busy event loop: then the trial, which follows, succeeds.
        is_sure = was_trial or not isinstance(error, TimeoutError)
        if is_sure and self._breaker.state(now) == "open":
            self._tell(now, error)

    def _tell(self, now: float, error: BaseException) -> None:
        """Warn once per outage that Redis is away, and once a minute when it comes and goes."""
        was_just_told = self._told_at is not None and now - self._told_at < LOG_EVERY_S
        if self._is_told or was_just_told:
            return
        self._told_at, self._is_told = now, True
        logger.warning(
            "Redis at %s does not serve (%s); until it does, features stay in this process",
            self._wire.location,
            _kind(error),
        )

    def _give_up(self) -> None:
        """Leave nobody waiting and nothing unwritten when the courier ends."""
        waiting, self._waiting = self._waiting, []
        _answer_none(waiting)
        self._dropped_writes += len(self._unwritten)
        self._unwritten.clear()

    def _name(self, key: str) -> str:
        return self._prefix + key

    def _set(self, key: str, payload: bytes) -> Command:
        return ("SET", self._name(key), frame(key, payload), "PX", self._ttl_ms)

    def _mget(self, keys: Sequence[str]) -> Command:
        return ("MGET", *map(self._name, keys))

    async def _unlink_all(self, wire: _Wire) -> None:
        """Remove the keys with our prefix, a thousand at a time: Redis serves others between."""
        pattern = re.sub(r"([*?\[\]\\^])", r"\\\1", self._prefix) + "*"
        cursor: bytes | int = 0
        while True:
            scan: Command = ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            [[cursor, names]] = await wire.exchange([scan], CLEAR_TIMEOUT_S)
            if names:
                await wire.exchange([("UNLINK", *names)], CLEAR_TIMEOUT_S)
            if int(cursor) == 0:
                return


def _answer_none(waiting: Sequence[Waiting]) -> None:
    """Make a miss of every lookup that has no answer yet."""
    for _, reply in waiting:
        if not reply.done():
            reply.set_result(None)


def _kind(error: BaseException) -> str:
    """Name an error; its message may quote a password that the server refused."""
    return type(error).__name__
