"""What a feature cache is, and the one in memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from threading import Lock
from typing import Protocol, runtime_checkable

from conduit.cache.breaker import CircuitState
from conduit.core.errors import ConfigurationError
from conduit.core.models import QueryFeatures

MAX_ENTRIES = 10_000  # about 25 MB with the embeddings of the largest embedder
TTL_S = 3600.0
KEY_BYTES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """What a cache did since it was made."""

    backend: str  # "memory" or "redis"
    hits: int
    misses: int
    size: int  # entries in this process
    errors: int = 0  # exchanges with the server that failed, and entries that were not ours
    dropped_writes: int = 0  # entries that were never offered to the server
    circuit_state: CircuitState | None = None  # None: there is no server
    hit_rate: float | None = field(init=False)  # None: nothing was looked up

    def __post_init__(self) -> None:
        """Work out the share of hits."""
        lookups = self.hits + self.misses
        object.__setattr__(self, "hit_rate", self.hits / lookups if lookups else None)


@runtime_checkable
class FeatureCache(Protocol):
    """Remembers features by key; no method raises because a server is away.

    Call `get` where awaiting is possible and `get_now` where it is not, one of them per query:
    each counts one hit or one miss.
    """

    def get_now(self, key: str) -> QueryFeatures | None:
        """Return what this process remembers, without waiting."""
        ...

    async def get(self, key: str) -> QueryFeatures | None:
        """Return what this process remembers or else its server; None when it is not known."""
        ...

    def put(self, key: str, features: QueryFeatures) -> None:
        """Remember, without waiting; a server is told in the background, if it can be."""
        ...

    async def clear(self) -> bool:
        """Forget every entry of this cache and nothing else; False when a server kept some."""
        ...

    def stats(self) -> CacheStats:
        """Return the counts so far."""
        ...

    async def close(self) -> None:
        """Wait for work in the background and let go of connections; safe to repeat."""
        ...


def cache_key(embedder_id: str, schema_id: str, text: str, task: str | None = None) -> str:
    """Return a name for the features of a text, from which the text cannot be read."""
    return key_maker(embedder_id, schema_id)(text, task)


def key_maker(embedder_id: str, schema_id: str) -> Callable[..., str]:
    """Return `cache_key` for one embedder and schema, which are then hashed once."""
    started = blake2b(_framed(embedder_id) + _framed(schema_id), digest_size=KEY_BYTES)

    def key(text: str, task: str | None = None) -> str:
        digest = started.copy()
        digest.update(_framed(task) + _framed(text))
        return digest.hexdigest()

    return key


def _framed(part: str | None) -> bytes:
    """Return a part behind its size, so that no two lists of parts hash alike."""
    if part is None:
        return b"\xff" * 8
    data = part.encode("utf-8", "replace")  # as `normalise_text`: a lone surrogate is a question
    return len(data).to_bytes(8, "little") + data


def checked_ttl_s(ttl_s: float) -> float:
    """Return a time to live that can work, or raise ConfigurationError."""
    if isinstance(ttl_s, bool) or not (math.isfinite(ttl_s) and ttl_s > 0):
        raise ConfigurationError(
            f"cache_ttl must be a positive number of seconds, got {ttl_s!r}", field="cache_ttl"
        )
    return float(ttl_s)


class MemoryCache:
    """Remembers the features used last, up to a number and an age; any thread may use it."""

    def __init__(
        self,
        max_entries: int = MAX_ENTRIES,
        ttl_s: float = TTL_S,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep at most `max_entries` (0: nothing at all), each for at most `ttl_s` seconds."""
        self._max_entries = max_entries
        self._ttl_s = checked_ttl_s(ttl_s)
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, QueryFeatures]] = OrderedDict()
        self._lock = Lock()
        self._hits = self._misses = 0

    @property
    def keeps_nothing(self) -> bool:
        """Whether nothing that is put will ever be found."""
        return not self._max_entries

    def get_now(self, key: str) -> QueryFeatures | None:
        """Return what was put, unless it is too old or was pushed out."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or self._clock() >= entry[0]:
                self._entries.pop(key, None)
                self._misses += 1
                return None
            self._entries.move_to_end(key)
            self._hits += 1
            return entry[1]

    async def get(self, key: str) -> QueryFeatures | None:
        """Return what `get_now` returns."""
        return self.get_now(key)

    def put(self, key: str, features: QueryFeatures) -> None:
        """Remember features; the entry used longest ago makes room."""
        if not self._max_entries:
            return
        with self._lock:
            self._entries[key] = (self._clock() + self._ttl_s, features)
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    async def clear(self) -> bool:
        """Forget every entry; the counts stay."""
        with self._lock:
            self._entries.clear()
        return True

    def stats(self) -> CacheStats:
        """Return the counts so far."""
        with self._lock:
            return CacheStats(
                backend="memory", hits=self._hits, misses=self._misses, size=len(self._entries)
            )

    async def close(self) -> None:
        """Do nothing: there is nothing to let go of."""
