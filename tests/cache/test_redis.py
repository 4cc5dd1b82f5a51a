"""The cache with a real Redis: the contract, sharing, foreign bytes, bounds and secrets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import pickle
import random
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from conduit.cache.base import FeatureCache, MemoryCache
from conduit.cache.opening import open_cache
from conduit.cache.redis import MAX_UNWRITTEN, MAX_WAITING, RedisCache, frame, unframe
from conduit.core.errors import ConfigurationError
from conduit.testing.caches import CacheContract, features_of, key_of
from tests.cache.conftest import patient, remote_only, stored, until
from tests.faultproxy import FaultProxy, Faults
from tests.servers import RedisServer, free_port

ROOT = Path(__file__).parents[2]
CANARY = "pa55-canary"
NAME = f"conduit:f:{key_of(0)}"


class TestRedisCache(CacheContract):
    """The contract, with memory in front of Redis as users have it."""

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    async def open(self, ttl_s: float) -> FeatureCache:
        """Return a cache on the empty Redis of the test."""
        return RedisCache(self.url, ttl_s)


class TestRedisAlone(TestRedisCache):
    """The contract where every answer comes from Redis."""

    async def open(self, ttl_s: float) -> FeatureCache:
        """Return a cache without memory."""
        return remote_only(self.url, ttl_s=ttl_s)


# Sharing


async def test_what_one_process_computed_another_finds(redis_url: str, admin: redis.Redis) -> None:
    """An entry comes back equal through Redis, and from then on from memory."""
    one, other = patient(redis_url), patient(redis_url)
    await stored(one, admin, 0)
    assert other.get_now(key_of(0)) is None
    assert await other.get(key_of(0)) == features_of(0)
    admin.flushdb()
    assert await other.get(key_of(0)) == features_of(0)
    stats = other.stats()
    assert (stats.hits, stats.misses, stats.backend, stats.circuit_state) == (
        2,
        1,
        "redis",
        "closed",
    )
    await one.close()
    await other.close()


async def test_entries_end_in_redis_too(redis_url: str, admin: redis.Redis) -> None:
    """Redis itself forgets an entry after its time to live."""
    cache = patient(redis_url, ttl_s=100.0)
    await stored(cache, admin, 0)
    assert 99_000 < int(admin.pttl(NAME)) <= 100_000
    await cache.close()


@pytest.mark.parametrize("prefix", ["conduit:f:", "a*[b]?:", "back\\slash:", "^[^a]:"])
async def test_clear_touches_only_our_keys(redis_url: str, admin: redis.Redis, prefix: str) -> None:
    """Keys of others stay, also where the prefix has characters that patterns use."""
    others = {"conduit:g:1", "conduit", "axb:1", "a*b:1", "b:1", "xconduit:f:1", "backslash:1"}
    for name in others:
        admin.set(name, "theirs")
    for number in range(2_500):
        admin.set(f"{prefix}{number}", "ours")
    cache = RedisCache(redis_url, prefix=prefix)
    cache.put(key_of(0), features_of(0))
    assert await cache.clear()
    assert set(admin.scan_iter()) == {name.encode() for name in others}
    assert await cache.get(key_of(0)) is None
    await cache.close()


async def test_a_write_under_way_does_not_outlive_the_clearing(redis_server: RedisServer) -> None:
    """What was put before `clear` is gone after it, however slowly it was on its way."""
    at = urlsplit(redis_server.url)
    slow = Faults(slice_bytes=100, latency_s=0.005)
    async with FaultProxy("127.0.0.1", at.port or 0, faults=slow) as proxy:
        cache = remote_only(proxy.url(redis_server.url))
        await cache.get(key_of(0))
        for number in range(30):
            cache.put(key_of(number), features_of(number))
        await asyncio.sleep(0.01)
        assert await cache.clear()
        await cache.close()
    with contextlib.closing(redis.Redis.from_url(redis_server.url)) as client:
        assert client.dbsize() == 0


async def test_clear_says_when_redis_kept_its_entries() -> None:
    """With Redis away, the memory is cleared and the answer is False."""
    cache = RedisCache(f"redis://127.0.0.1:{free_port()}")
    cache.put(key_of(0), features_of(0))
    assert not await cache.clear()
    assert cache.get_now(key_of(0)) is None
    await cache.close()


# Foreign and corrupt bytes

GARBAGE = [
    b"",
    b"\x00",
    b"garbage",
    pickle.dumps({"vector": [1.0]}),
    frame(key_of(0), b"not features"),
    frame(key_of(0), b""),
    frame(key_of(1), features_of(1).to_bytes()),  # right, but of another key
    frame(key_of(0), features_of(0).to_bytes())[:-1],
    frame(key_of(0), features_of(0).to_bytes()) + b"\x00",
    features_of(0).to_bytes(),
    b"\xff" * 1_000_000,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_bytes_that_are_not_ours_are_a_miss(
    redis_url: str, admin: redis.Redis, garbage: bytes
) -> None:
    """A foreign entry is a counted miss, leaves the circuit closed, and makes room for ours."""
    cache = remote_only(redis_url)
    admin.set(NAME, garbage)
    assert await cache.get(key_of(0)) is None
    stats = cache.stats()
    assert (stats.misses, stats.errors, stats.circuit_state) == (1, 1, "closed")
    cache.put(key_of(0), features_of(0))
    assert await cache.get(key_of(0)) == features_of(0)
    await cache.close()


async def test_a_key_of_another_type_is_a_miss(redis_url: str, admin: redis.Redis) -> None:
    """A list under our name is no entry and is replaced."""
    cache = remote_only(redis_url)
    admin.rpush(NAME, "theirs")
    assert await cache.get(key_of(0)) is None
    cache.put(key_of(0), features_of(0))
    assert await cache.get(key_of(0)) == features_of(0)
    await cache.close()


@given(st.binary(max_size=60), st.text(max_size=20))
def test_a_frame_opens_under_its_own_key(payload: bytes, key: str) -> None:
    """What was framed comes back under its key, and under no other."""
    assert unframe(key, frame(key, payload)) == payload
    assert unframe(key + "x", frame(key, payload)) is None


@given(st.binary(max_size=60), st.data())
def test_a_frame_with_a_changed_byte_does_not_open(payload: bytes, data: st.DataObject) -> None:
    """Any one changed byte shows."""
    raw = bytearray(frame("key", payload))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    assert unframe("key", bytes(raw)) is None


@given(st.binary(max_size=60) | st.none() | st.integers() | st.lists(st.binary()) | st.text())
def test_what_is_no_frame_does_not_open(raw: object) -> None:
    """Whatever type a reply has, only a frame opens."""
    assert unframe("key", raw) is None


def nonsense(chance: random.Random) -> bytes:
    """Return bytes that look more or less like replies of Redis."""
    pieces = [
        b"+OK\r\n", b"+", b"-ERR no\r\n", b"-LOADING wait\r\n", b"-\r\n", b":1\r\n", b":x\r\n",
        b"$-1\r\n", b"$-9\r\n", b"$5\r\nab", b"$3\r\nabc\r\n", b"$99999999\r\n", b"$\xff\r\n",
        b"*1\r\n", b"*-1\r\n", b"*-7\r\n", b"*0\r\n", b"*2\r\n$1\r\na\r\n", b"*1\r\n" * 3000,
        b"\r\n", b"\x00", b"%1\r\n", b"_\r\n", b">3\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b":" + b"9" * 5000 + b"\r\n", b"$" + b"9" * 30 + b"\r\n", b"x" * 70_000,
    ]  # fmt: skip
    return b"".join(chance.choice(pieces) for _ in range(chance.randrange(1, 8)))


@contextlib.asynccontextmanager
async def liar(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Serve what a function makes of each chunk that arrives; gives the address."""

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                writer.write(answer(chunk))

    server = await asyncio.start_server(lie, "127.0.0.1", 0)
    try:
        yield f"redis://:{CANARY}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def polite(chunk: bytes) -> bytes:
    """Return the replies to what a client says before its first command."""
    return b"+OK\r\n" * (chunk.count(b"CLIENT") + chunk.count(b"AUTH"))


async def test_a_server_that_speaks_nonsense_is_a_miss(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever bytes arrive instead of replies, a lookup is a miss and no task ends in an error."""
    chance = random.Random(1)

    def answer(chunk: bytes) -> bytes:
        return polite(chunk) if b"MGET" not in chunk and chance.random() < 0.8 else nonsense(chance)

    async with liar(answer) as url:
        for _ in range(200):
            cache = remote_only(url, timeout_s=0.05)
            assert await cache.get(key_of(0)) is None
            await cache.close()
    gc.collect()  # asyncio logs the error of a task that nobody asked when the task is collected
    assert {record.name for record in caplog.records} == {"conduit.cache"}


SHAPES = [
    b":7\r\n",
    b"+OK\r\n",
    b"$3\r\nabc\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
]


@pytest.mark.parametrize("reply", SHAPES)
async def test_a_reply_of_the_wrong_shape_ends_the_connection(reply: bytes) -> None:
    """Replies that cannot belong to the commands are a failure of the exchange, not an answer."""
    async with liar(lambda chunk: reply if b"MGET" in chunk else polite(chunk)) as url:
        cache = patient(url)
        assert await cache.get(key_of(0)) is None
        stats = cache.stats()
        assert (stats.errors, stats.circuit_state) == (1, "open")
        await cache.close()


# Bounds


async def test_a_burst_of_lookups_is_a_few_exchanges(redis_url: str, admin: redis.Redis) -> None:
    """A hundred lookups at once are not a hundred round trips."""
    cache = remote_only(redis_url)
    await stored(cache, admin, 0)
    admin.config_resetstat()
    found = await asyncio.gather(*(cache.get(key_of(0)) for _ in range(100)))
    assert found == [features_of(0)] * 100
    assert admin.info("commandstats")["cmdstat_mget"]["calls"] <= 3
    await cache.close()


async def test_too_many_lookups_at_once_are_misses(redis_url: str, admin: redis.Redis) -> None:
    """Beyond the bound nobody waits, and it is not a failure of Redis."""
    cache = remote_only(redis_url)
    await stored(cache, admin, 0)
    found = await asyncio.gather(*(cache.get(key_of(0)) for _ in range(MAX_WAITING + 50)))
    assert found.count(features_of(0)) == MAX_WAITING
    assert found.count(None) == 50
    assert cache.stats().errors == 0
    await cache.close()


async def test_too_many_writes_are_dropped_and_counted(redis_url: str, admin: redis.Redis) -> None:
    """Writes that wait are bounded in number, and the others arrive."""
    cache = remote_only(redis_url)
    for number in range(MAX_UNWRITTEN + 50):
        cache.put(key_of(number), features_of(number))
    assert cache.stats().dropped_writes == 50
    await until(lambda: admin.dbsize() == MAX_UNWRITTEN)
    await cache.close()


async def test_closing_waits_for_the_writes(redis_url: str, admin: redis.Redis) -> None:
    """What was put before `close` is in Redis after it, and no task or connection is left."""
    cache = remote_only(redis_url)
    for number in range(200):
        cache.put(key_of(number), features_of(number))
    await cache.close()
    assert admin.dbsize() == 200
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await until(lambda: len(admin.client_list()) == 1)


# Event loops


# Without `-W error`: nobody closes the connections in the loops they belong to.
LOOP_AFTER_LOOP = """
import asyncio, sys
from conduit.testing.caches import features_of, key_of
from tests.cache.conftest import remote_only

async def use(cache, number):
    cache.put(key_of(number), features_of(number))
    assert await cache.get(key_of(number)) == features_of(number)
    assert await cache.get(key_of(0)) == features_of(0)

cache = remote_only(sys.argv[1])
for number in range(3):
    asyncio.run(use(cache, number))
print(cache.stats().hits)
"""


def test_it_may_be_used_from_one_event_loop_after_another(redis_url: str) -> None:
    """A program that calls `asyncio.run` for each query has the cache in each of them."""
    command = [sys.executable, "-c", LOOP_AFTER_LOOP, redis_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout.strip(), done.stderr) == ("6", "")


async def test_a_second_loop_at_the_same_time_has_the_memory(redis_url: str) -> None:
    """Of two loops in two threads one has Redis, and the other neither fails nor waits."""
    cache = patient(redis_url)
    await cache.get(key_of(0))
    found: list[object] = []

    async def use() -> None:
        cache.put(key_of(1), features_of(1))
        found.extend([await cache.get(key_of(0)), await cache.get(key_of(1))])
        await cache.close()

    thread = threading.Thread(target=asyncio.run, args=[use()])
    thread.start()
    await asyncio.to_thread(thread.join)
    assert found == [None, features_of(1)]
    assert cache.stats().dropped_writes == 1
    await cache.close()


def test_without_an_event_loop_it_is_a_cache_in_memory(redis_url: str) -> None:
    """`route_sync` in a program without asyncio has the memory, and counts what Redis missed."""
    cache = RedisCache(redis_url)
    cache.put(key_of(0), features_of(0))
    assert cache.get_now(key_of(0)) == features_of(0)
    assert cache.stats().dropped_writes == 1


# Addresses and secrets


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        f"redis://:{CANARY}/x@localhost:6379",
        f"redis://user:{CANARY}#@localhost:6379/0",
        f"redis://:{CANARY}@localhost:port/0",
        f"redis://:{CANARY}@localhost/0?db=first",
        f"redis://:{CANARY}@localhost/0?no_such_option=1",
        f"redis://:{CANARY}@localhost/0?protocol=9",
    ],
)
def test_a_bad_address_is_refused_without_showing_it(url: str) -> None:
    """The error names the setting, and neither it nor its traceback holds the password."""
    with pytest.raises(ConfigurationError) as caught:
        open_cache(True, url)
    assert caught.value.field == "redis_url"
    shown = "".join(traceback.format_exception(caught.value, chain=True)[-1:]) + repr(caught.value)
    assert CANARY not in shown
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("account", [f"user:{CANARY}", f":{CANARY}"])
async def test_a_refused_password_shows_nowhere(
    redis_url: str, caplog: pytest.LogCaptureFixture, account: str
) -> None:
    """A login that fails is a miss, told once, and the password is in no log line or repr."""
    caplog.set_level(logging.DEBUG)
    cache = patient(redis_url.replace("redis://", f"redis://{account}@"))
    for _ in range(5):
        assert await cache.get(key_of(0)) is None
        await asyncio.sleep(0.06)
    assert not await cache.clear()
    await cache.close()
    assert CANARY not in caplog.text + repr(cache) + str(cache) + repr(cache.stats())
    assert caplog.text.count("does not serve") == 1


async def test_a_password_that_the_server_repeats_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that does not know AUTH quotes its arguments in the error."""
    refusal = f"-ERR unknown command 'AUTH', with args beginning with: '{CANARY}'\r\n".encode()
    async with liar(lambda _: refusal) as url:
        cache = patient(url)
        assert await cache.get(key_of(0)) is None
        assert not await cache.clear()
        await cache.close()
    assert len(caplog.records) == 2
    assert CANARY not in caplog.text


async def test_a_redis_that_is_not_there_is_told_once_and_memory_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a reachable Redis the first lookup warns, and the cache works in memory."""
    cache = RedisCache(f"redis://127.0.0.1:{free_port()}/0", timeout_s=2.0)
    for number in range(50):
        assert await cache.get(key_of(number)) is None
        cache.put(key_of(number), features_of(number))
        assert await cache.get(key_of(number)) == features_of(number)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.errors, stats.circuit_state) == (50, 50, 1, "open")
    await cache.close()


async def test_the_memory_in_front_may_be_anyones(redis_url: str) -> None:
    """A smaller memory means more questions to Redis, not other answers."""
    cache = RedisCache(redis_url, memory=MemoryCache(2), timeout_s=2.0)
    for number in range(20):
        cache.put(key_of(number), features_of(number))
    for number in range(20):
        assert await cache.get(key_of(number)) == features_of(number)
    assert cache.stats().size == 2
    await cache.close()
