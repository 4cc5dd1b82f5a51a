"""Each fault of the proxy is felt by a client of a real server, and ends when switched off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.faultproxy import FaultProxy, Faults
from tests.servers import RedisServer

VALUE = bytes(range(256)) * 64
TIMEOUT_S = 0.15


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[FaultProxy]:
    """Give a proxy in front of Redis."""
    async with FaultProxy("127.0.0.1", redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[redis.asyncio.Redis]:
    """Give a client that goes through the proxy, times out soon and never retries."""
    client = redis.asyncio.Redis.from_url(
        proxy.url("redis://127.0.0.1:1/0"),
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    async with client:
        yield client


async def works(client: redis.asyncio.Redis) -> bool:
    """Whether a value goes to the server and comes back whole."""
    await client.set("value", VALUE)
    return bool(await client.get("value") == VALUE)


@pytest.mark.parametrize(
    "faults", [Faults(), Faults(latency_s=0.02), Faults(slice_bytes=977)], ids=str
)
async def test_slow_and_sliced_bytes_arrive_whole(
    proxy: FaultProxy, client: redis.asyncio.Redis, faults: Faults
) -> None:
    """Latency and slicing change when bytes arrive, never which."""
    await proxy.set(faults)
    assert await works(client)


async def test_slices_reach_the_client_one_by_one(proxy: FaultProxy) -> None:
    """A sliced reply is read in pieces of the size asked for, at most."""
    await proxy.set(Faults(slice_bytes=2))
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"PING\r\n")
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < len(b"+PONG\r\n"):
        pieces.append(await reader.read(100))
    assert b"".join(pieces) == b"+PONG\r\n"
    assert max(map(len, pieces)) == 2
    writer.close()


async def test_latency_is_felt_in_both_directions(
    proxy: FaultProxy, client: redis.asyncio.Redis
) -> None:
    """A round trip takes at least twice the latency."""
    assert await works(client)
    await proxy.set(Faults(latency_s=0.05))
    started = time.perf_counter()
    await client.ping()
    assert time.perf_counter() - started >= 0.1


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(latency_s=10), RedisTimeoutError),
        (Faults(blackhole=True), RedisTimeoutError),
        (Faults(reset=True), RedisConnectionError),
        (Faults(corrupt=1.0), RedisError),
    ],
    ids=str,
)
async def test_a_fault_strikes_an_open_connection_and_ends(
    proxy: FaultProxy,
    client: redis.asyncio.Redis,
    faults: Faults,
    error: type[RedisError],
) -> None:
    """A fault switched on hits the connection in use; switched off, the client works again."""
    assert await works(client)
    await proxy.set(faults)
    with pytest.raises(error):
        await client.get("value")
    await proxy.set(Faults())
    assert await works(client)


async def test_a_refused_connection_fails_at_once_while_open_ones_go_on(
    proxy: FaultProxy, client: redis.asyncio.Redis
) -> None:
    """Refusal closes the door to new clients only, and opens it again at the same port."""
    assert await works(client)
    await proxy.set(Faults(refuse=True))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await works(client)
    await proxy.set(Faults())
    _reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.close()
    await writer.wait_closed()


async def test_bytes_held_by_a_black_hole_arrive_when_it_ends(
    proxy: FaultProxy, redis_server: RedisServer
) -> None:
    """A partition delays bytes and loses none, as TCP does."""
    patient = redis.asyncio.Redis(port=proxy.port)
    async with patient:
        await patient.ping()
        await proxy.set(Faults(blackhole=True))
        writing = asyncio.ensure_future(patient.set("late", b"1"))
        await asyncio.sleep(0.1)
        assert not writing.done()
        await proxy.set(Faults())
        assert await writing


async def test_corruption_changes_only_what_the_server_says(
    proxy: FaultProxy, client: redis.asyncio.Redis, redis_server: RedisServer
) -> None:
    """Corrupted replies leave the stored value as the client wrote it."""
    assert await works(client)
    await proxy.set(Faults(corrupt=1.0))
    with pytest.raises(RedisError):
        await client.set("value", VALUE[::-1])
    async with redis.asyncio.Redis(port=redis_server.port) as direct:
        assert await direct.get("value") == VALUE[::-1]


async def test_closing_the_proxy_leaves_no_connection_and_no_task(
    redis_server: RedisServer,
) -> None:
    """After the proxy ends, its clients are cut off and its tasks are gone."""
    before = asyncio.all_tasks()
    async with FaultProxy("127.0.0.1", redis_server.port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"PING\r\n")
        assert await reader.readline() == b"+PONG\r\n"
        assert (proxy.live, proxy.accepted) == (1, 1)
    assert proxy.live == 0
    assert asyncio.all_tasks() == before
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
