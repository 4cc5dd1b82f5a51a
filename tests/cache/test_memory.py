"""The cache in memory, its keys, and how settings choose a cache."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.cache.base import CacheStats, FeatureCache, MemoryCache, cache_key
from conduit.cache.opening import open_cache
from conduit.core.errors import ConfigurationError
from conduit.core.models import normalise_text
from conduit.testing.caches import CacheContract, features_of, key_of

TTL_S = 10.0


class TestMemoryCache(CacheContract):
    """The contract, in memory."""

    async def open(self, ttl_s: float) -> FeatureCache:
        """Return a cache in memory."""
        return MemoryCache(ttl_s=ttl_s)

    async def test_get_now_finds_what_was_put(self) -> None:
        """In memory nothing needs waiting for: the very same object comes back."""
        async with self.opened() as cache:
            features = features_of(0)
            cache.put(key_of(0), features)
            assert cache.get_now(key_of(0)) is features


class Clock:
    """A clock that a test moves by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time that the test has set."""
        return self.now


@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from(["get", "put", "wait"]), st.integers(0, 4)), max_size=60),
)
def test_it_keeps_what_was_used_last_and_is_young(
    max_entries: int, history: list[tuple[str, int]]
) -> None:
    """Under any history it holds what a plain model of an LRU with expiry holds."""
    clock = Clock()
    cache = MemoryCache(max_entries, TTL_S, clock=clock)
    model: OrderedDict[int, float] = OrderedDict()
    for what, number in history:
        if what == "wait":
            clock.now += number
        elif what == "put":
            cache.put(key_of(number), features_of(number))
            model[number] = clock.now + TTL_S
            model.move_to_end(number)
            while len(model) > max_entries:
                model.popitem(last=False)
        elif model.get(number, -1.0) > clock.now:
            assert cache.get_now(key_of(number)) == features_of(number)
            model.move_to_end(number)
        else:
            assert cache.get_now(key_of(number)) is None
            model.pop(number, None)
        assert cache.stats().size == len(model)


def test_a_lookup_keeps_an_entry_from_being_pushed_out() -> None:
    """The entry used longest ago makes room, and a lookup is a use."""
    cache = MemoryCache(max_entries=2)
    cache.put(key_of(0), features_of(0))
    cache.put(key_of(1), features_of(1))
    assert cache.get_now(key_of(0)) is not None
    cache.put(key_of(2), features_of(2))
    assert [cache.get_now(key_of(n)) is not None for n in range(3)] == [True, False, True]


def test_threads_may_share_it() -> None:
    """Lookups and writes from several threads neither fail nor mix up entries."""
    cache = MemoryCache(max_entries=20)

    def work(start: int) -> None:
        for number in range(start, start + 3_000):
            cache.put(key_of(number % 40), features_of(number % 40))
            assert cache.get_now(key_of(number % 31)) in (None, features_of(number % 31))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert cache.stats().size == 20


parts = st.tuples(
    st.text(max_size=4), st.text(max_size=4), st.text(max_size=6), st.none() | st.text(max_size=3)
)


@given(parts, parts)
def test_keys_differ_exactly_when_a_part_differs(
    one: tuple[str, str, str, str | None], other: tuple[str, str, str, str | None]
) -> None:
    """Moving characters between embedder, schema, text and task, or leaving a task out, shows."""
    assert (cache_key(*one) == cache_key(*other)) == (one == other)


@given(st.text(min_size=1, max_size=6), st.data())
def test_moving_a_character_to_the_next_part_makes_another_key(
    text: str, data: st.DataObject
) -> None:
    """Where one part ends and the next begins is in the key."""
    one, other = data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2, unique=True))
    assert cache_key(text[:one], "s", text[one:]) != cache_key(text[:other], "s", text[other:])
    assert cache_key(text[:one], text[one:], "t") != cache_key(text[:other], text[other:], "t")


def test_no_task_is_another_key_than_an_empty_one() -> None:
    """A query without a task and one whose task has no name do not share features."""
    assert cache_key("e", "s", "text") != cache_key("e", "s", "text", "")


@given(st.text(st.characters(exclude_categories=()), min_size=1))
def test_the_key_is_that_of_the_normalised_text(text: str) -> None:
    """Lone surrogates count as what normalising makes of them."""
    assert cache_key("e", "s", text) == cache_key("e", "s", normalise_text(text))


def test_the_text_is_not_in_the_key() -> None:
    """A key is 40 hexadecimal digits, whatever the text."""
    key = cache_key("embedder", "schema", "a secret prompt" * 10_000, "task")
    assert len(bytes.fromhex(key)) == 20


def test_a_cache_that_is_off_keeps_nothing() -> None:
    """Without a cache every lookup is a miss and nothing stays in memory."""
    cache = open_cache(False, "redis://127.0.0.1:1")
    cache.put(key_of(0), features_of(0))
    assert cache.get_now(key_of(0)) is None
    assert cache.stats() == CacheStats(backend="memory", hits=0, misses=1, size=0)


def test_without_an_address_the_cache_is_in_memory() -> None:
    """`cache_enabled=True` alone needs no server."""
    assert open_cache(True, None).stats().backend == "memory"


def test_the_vendor_is_loaded_only_for_those_who_use_it() -> None:
    """Opening a cache in memory does not import redis."""
    code = (
        "import sys; from conduit.cache.opening import open_cache; open_cache(True);"
        "print('redis' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("ttl_s", [0, -1.0, math.nan, math.inf, True])
def test_a_time_to_live_that_cannot_work_is_refused(ttl_s: float) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigurationError) as caught:
        open_cache(True, None, ttl_s)
    assert caught.value.field == "cache_ttl"
