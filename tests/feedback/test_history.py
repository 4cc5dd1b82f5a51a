"""Recent queries are kept for minutes, in this process or in Redis, and never as text."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import redis

from conduit.core.errors import ConfigurationError, InvalidInput
from conduit.core.models import ModelArm
from conduit.engines.embeddings.static import StaticEmbedder
from conduit.engines.executor import FunctionExecutor
from conduit.engines.router import Router
from conduit.feedback import (
    FeedbackCollector,
    ImplicitFeedbackDetector,
    QueryHistoryTracker,
    RedisQueryHistoryTracker,
)
from conduit.feedback.history import pack_trace, unpack_trace
from conduit.feedback.retries import QueryTrace, trace_of
from conduit.service import Service
from conduit.storage.base import MemoryStore
from tests.servers import RedisServer, free_port

EMBEDDER = StaticEmbedder()
QUESTION = "How do I convert a list of strings to integers in Python?"
REPHRASED = "How can I turn a python list of strings into ints?"

Tracker = QueryHistoryTracker | RedisQueryHistoryTracker


def trace(text: str, *, user: str | None = "u", at_s: float = 0.0) -> QueryTrace:
    """Return the trace of a query as the router would make it."""
    vector = EMBEDDER.embed([text])[0]
    return trace_of(
        text, decision_id=f"of {at_s}", user_id=user, at_s=at_s, embedding=vector, model="acme:a"
    )


def in_redis(server: RedisServer, **options: int) -> RedisQueryHistoryTracker:
    """Return a tracker that waits as long as a busy machine needs."""
    return RedisQueryHistoryTracker(server.url, timeout_s=5.0, **options)


@pytest.fixture(params=["memory", "redis"])
async def tracker(request: pytest.FixtureRequest) -> AsyncIterator[Tracker]:
    """Give an empty tracker that keeps three queries a user, of either kind."""
    made: Tracker = QueryHistoryTracker(max_per_user=3)
    if request.param == "redis":
        made = in_redis(request.getfixturevalue("redis_server"), max_per_user=3)
    yield made
    await made.close()


async def test_a_users_queries_come_back_the_latest_first(tracker: Tracker) -> None:
    """As many as are kept, within the window, of that user alone, with all that tells a retry."""
    for k in range(5):
        await tracker.add(trace(f"question number {k}", at_s=100.0 * k))
    await tracker.add(trace("of another", user="v", at_s=390.0))
    await tracker.add(trace("of nobody", user=None, at_s=395.0))
    found = await tracker.recent("u", now=401.0)
    assert [t.at_s for t in found] == [400.0, 300.0, 200.0]
    kept, put = found[0], trace("question number 4", at_s=400.0)
    assert (kept.decision_id, kept.model, kept.user_id) == ("of 400.0", "acme:a", "u")
    assert (kept.text_hash, kept.wording) == (put.text_hash, put.wording)
    assert kept.embedding is not None
    assert put.embedding is not None
    assert float(kept.embedding @ put.embedding) > 0.999
    assert await tracker.recent(None, now=401.0) == []
    assert [t.at_s for t in await tracker.recent("u", now=650.0)] == [400.0]
    await tracker.forget("u")
    assert await tracker.recent("u", now=401.0) == []
    assert len(await tracker.recent("v", now=401.0)) == 1


async def test_a_retry_is_found_in_what_a_tracker_kept(tracker: Tracker) -> None:
    """The detector tells a second try from another question by packed traces alone."""
    detector = ImplicitFeedbackDetector(embedder=EMBEDDER.id)
    await tracker.add(trace(QUESTION))
    earlier = await tracker.recent("u", now=30.0)
    again = detector.retry(trace(REPHRASED, at_s=30.0), earlier)
    assert again is not None
    assert (again.decision_id, again.model) == ("of 0.0", "acme:a")
    assert detector.retry(trace("What is the capital of Chad?", at_s=30.0), earlier) is None


def test_a_packed_trace_holds_no_text() -> None:
    """Neither a word of the query nor its user is in the bytes."""
    packed = pack_trace(trace("zebra crossing xylophone", user="alice@example.com"))
    assert not any(word in packed for word in (b"zebra", b"crossing", b"xylophone", b"alice"))
    assert unpack_trace(packed, "alice@example.com").wording.matter


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_other_bytes_are_refused(cut: int) -> None:
    """Bytes that were cut or are foreign are no trace."""
    with pytest.raises(InvalidInput):
        unpack_trace(pack_trace(trace("a question"))[:cut], "u")


async def test_memory_is_bounded() -> None:
    """The user who asked longest ago goes first, by number and by bytes."""
    few = QueryHistoryTracker(max_users=2)
    for k, user in enumerate("abc"):
        await few.add(trace("a question", user=user, at_s=float(k)))
    assert await few.recent("a", now=3.0) == []
    assert (few.stats().users, few.stats().traces) == (2, 2)
    small = QueryHistoryTracker(max_bytes=5_000)
    for k in range(100):
        await small.add(trace(f"question {k}", user=f"u{k % 50}", at_s=float(k)))
        assert small.stats().bytes <= 5_000
    assert await small.recent("u49", now=100.0)


async def test_a_retry_that_another_replica_answers_is_found(redis_server: RedisServer) -> None:
    """Two replicas on one log and one Redis: the second sees that the first's answer did not do."""
    arms, executor = [ModelArm("acme:a"), ModelArm("acme:b")], FunctionExecutor(lambda m, p: "yes")
    async with MemoryStore() as store:
        routers = [Router(arms, seed=k, environ={}, store=store, secret="s") for k in (1, 2)]
        histories = [in_redis(redis_server) for _ in routers]
        services = [
            Service(router, executor, collector=FeedbackCollector(router, history=history))
            for router, history in zip(routers, histories, strict=True)
        ]
        first = await services[0].complete(QUESTION, user_id="u")
        await services[0].flush()
        await services[1].complete(REPHRASED, user_id="u")
        await services[1].flush()
        rows = await store.tail(routers[0].name)
        said = [(e.row.decision_id, e.row.model) for e in rows if e.row.kind == "retry"]
        assert said == [(first.decision.id, first.model)]
        for service in services:
            await service.close()


async def test_without_redis_there_is_no_history_and_no_error() -> None:
    """An address where nobody answers gives no queries, and is counted."""
    away = RedisQueryHistoryTracker(f"redis://127.0.0.1:{free_port()}")
    await away.add(trace(QUESTION))
    assert await away.recent("u", now=1.0) == []
    assert away.stats().failures == 2
    await away.close()


async def test_a_redis_that_dies_and_comes_back_is_used_again(redis_server: RedisServer) -> None:
    """While it is away there is no history; afterwards there is one again."""
    now = [0.0]
    tracker = RedisQueryHistoryTracker(redis_server.url, timeout_s=5.0, clock=lambda: now[0])
    await tracker.add(trace(QUESTION))
    assert len(await tracker.recent("u", now=1.0)) == 1
    await asyncio.to_thread(redis_server.kill)
    assert await tracker.recent("u", now=2.0) == []
    await asyncio.to_thread(redis_server.start)
    now[0] = 3_600.0  # long after a breaker tries again
    await tracker.add(trace(QUESTION, at_s=3.0))
    assert [t.at_s for t in await tracker.recent("u", now=4.0)][:1] == [3.0]
    await tracker.close()


async def test_foreign_bytes_in_redis_are_skipped(redis_server: RedisServer) -> None:
    """An entry that somebody else wrote, or that was damaged, is counted and left out."""
    tracker = in_redis(redis_server)
    await tracker.add(trace(QUESTION))
    with contextlib.closing(redis.Redis.from_url(redis_server.url)) as client:
        (key,) = client.keys("conduit:q:*")  # type: ignore[misc]
        whole = client.lindex(key, 0)
        client.lpush(key, b"rubbish", whole[:-1] + b"\xff", b"")  # type: ignore[index]
        assert 0 < client.pttl(key) <= 300_000  # Redis forgets by itself
    assert len(await tracker.recent("u", now=1.0)) == 1
    assert tracker.stats().failures == 3
    await tracker.close()


@pytest.mark.parametrize("url", ["nonsense", "http://localhost", "redis://h:port"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    """A wrong address is a ConfigurationError that does not quote it."""
    with pytest.raises(ConfigurationError) as caught:
        RedisQueryHistoryTracker(url)
    assert url not in str(caught.value)
