"""From a query to its features: cache, embedder, signals, heads."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conduit.cache.base import FeatureCache, MemoryCache, key_maker
from conduit.core.models import Query, QueryFeatures, Vector
from conduit.engines import features, heads
from conduit.engines.embeddings.base import Embedder
from conduit.engines.embeddings.named import create_embedder

log = logging.getLogger(__name__)

Embedded = tuple[Vector | None, str | None]  # the row, or why there is none
BATCH = 32  # texts that a slow embedder takes at once
WARN_EVERY = 1000  # failures of the embedder between two warnings


@dataclass(slots=True)
class AnalyzerStats:
    """Counts since the start."""

    analysed: int = 0
    degraded: int = 0


class Analyzer:
    """Turns queries into features; a failing embedder costs the embedding, never the decision."""

    def __init__(
        self,
        embedder: Embedder | str | None = None,
        *,
        cache: FeatureCache | None = None,
        tables: features.FeatureTables | None = None,
    ) -> None:
        """Take an embedder (or its name); without a cache every text is analysed anew."""
        self.embedder = create_embedder(embedder)
        self._embedder_id = self.embedder.id
        self.cache: FeatureCache = MemoryCache(max_entries=0) if cache is None else cache
        self._remote = not isinstance(self.cache, MemoryCache)
        self._cached = not isinstance(self.cache, MemoryCache) or not self.cache.keeps_nothing
        self.tables = tables or features.feature_tables(self.embedder.id, self.embedder.dim)
        self.schema = features.schema_id(self.embedder.id, tables)
        self._key = key_maker(self.embedder.id, self.schema)
        self.dim = features.VECTOR_DIM
        self.stats = AnalyzerStats()
        self._batcher: _Batcher | None = None

    # one query ---------------------------------------------------------------------------------

    async def analyse(self, query: Query) -> QueryFeatures:
        """Return the features of a query without holding up the event loop."""
        if not self.embedder.blocking and not self._remote:
            return self.analyse_now(query)
        key = self.key(query)
        found = await self.cache.get(key)
        if found is not None and self._fits(found):
            return found
        text = features.clip_text(query.text)
        if not self.embedder.blocking:
            return self._kept(key, self._features(query, text, *self._embedded(text)))
        if self._batcher is None:
            self._batcher = _Batcher(self._embed_batch)
        return self._kept(key, self._features(query, text, *await self._batcher.embed(text)))

    def analyse_now(self, query: Query) -> QueryFeatures:
        """Return the features in this thread, however long the embedder takes."""
        if not self._cached:
            return self._read(query)
        key = self.key(query)
        found = self.cache.get_now(key)
        if found is not None and self._fits(found):
            return found
        return self._kept(key, self._read(query))

    def _read(self, query: Query) -> QueryFeatures:
        text = features.clip_text(query.text)
        return self._features(query, text, *self._embedded(text))

    def _fits(self, found: QueryFeatures) -> bool:
        """Return whether what a server kept is of our layout: anybody may have written it."""
        return found.schema == self.schema and found.vector.shape == (self.dim,)

    def _kept(self, key: str, result: QueryFeatures) -> QueryFeatures:
        if result.degraded is None:
            self.cache.put(key, result)
        return result

    def key(self, query: Query) -> str:
        """Return the name under which the cache has the features of a query."""
        return self._key(query.text, query.task)

    # many texts --------------------------------------------------------------------------------

    def vectors(
        self, texts: Sequence[str], tasks: Sequence[str | None] | None = None
    ) -> NDArray[np.float32]:
        """Return one vector per text in this thread, as replays need them."""
        return self._stacked([self.analyse_now(query) for query in _queries(texts, tasks)])

    async def analyse_all(
        self, texts: Sequence[str], tasks: Sequence[str | None] | None = None
    ) -> NDArray[np.float32]:
        """Return one vector per text, as calibration needs them, without holding up the loop."""
        found: list[QueryFeatures] = []
        queries = _queries(texts, tasks)
        for start in range(0, len(queries), BATCH):
            batch = queries[start : start + BATCH]
            if self.embedder.blocking:
                found += await asyncio.gather(*(self.analyse(query) for query in batch))
                continue
            for query in batch:
                found.append(await self.analyse(query))
                await asyncio.sleep(0)
        return self._stacked(found)

    def _stacked(self, found: Sequence[QueryFeatures]) -> NDArray[np.float32]:
        return np.stack([each.vector for each in found]) if found else np.zeros((0, self.dim), "f4")

    # parts -------------------------------------------------------------------------------------

    def _embedded(self, text: str) -> Embedded:
        return self._embed_batch([text])[0]

    def _embed_batch(self, texts: Sequence[str]) -> list[Embedded]:
        """Return an embedding or the reason for its absence per text; never raises."""
        try:
            rows = np.asarray(self.embedder.embed(texts), np.float32)
        except Exception as error:  # noqa: BLE001  a user's embedder may raise anything; counted
            return [self._missing(f"the embedder raised {type(error).__name__}")] * len(texts)
        if rows.shape != (len(texts), self.embedder.dim):
            return [self._missing(f"the embedder returned shape {rows.shape}")] * len(texts)
        return [
            (row, None)
            if math.isfinite(row.dot(row))
            else self._missing("the embedder returned numbers that are not finite")
            for row in rows
        ]

    def _missing(self, reason: str) -> tuple[None, str]:
        if self.stats.degraded % WARN_EVERY == 0:
            log.warning("Routing without embeddings: %s", reason)
        self.stats.degraded += 1
        return None, reason

    def _features(
        self, query: Query, text: str, embedding: Vector | None, problem: str | None
    ) -> QueryFeatures:
        signals = features.surface_signals(text)
        self.stats.analysed += 1
        vector = features.encode_vector(signals, embedding, self.tables, query.task)
        vector.flags.writeable = False
        if embedding is not None:
            embedding.flags.writeable = False
        return QueryFeatures.unread(
            vector,
            self.schema if problem is None else self.schema + "#surface",
            _tokens(signals.token_estimate, len(text), len(query.text)),
            heads.reader(signals, embedding, self._embedder_id),
            degraded=problem,
            embedding=embedding,
        )

    async def close(self) -> None:
        """Stop the threads of a slow embedder."""
        if self._batcher is not None:
            await self._batcher.close()
            self._batcher = None


def _queries(texts: Sequence[str], tasks: Sequence[str | None] | None) -> list[Query]:
    labels = tasks if tasks is not None else [None] * len(texts)
    return [Query(text=text, task=task) for text, task in zip(texts, labels, strict=True)]


def _tokens(estimate: int, looked_at: int, length: int) -> int:
    return int(estimate * length / looked_at) if looked_at < length else estimate


class _Batcher:
    """Runs a slow embedder in one thread; what queues up meanwhile goes in one batch."""

    def __init__(self, embed: Callable[[Sequence[str]], list[Embedded]]) -> None:
        self._embed = embed
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="conduit-embed")
        self._waiting: list[tuple[str, asyncio.Future[Embedded]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def embed(self, text: str) -> Embedded:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Embedded] = loop.create_future()
        self._waiting.append((text, future))
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            rows = await loop.run_in_executor(self._pool, self._embed, [text for text, _ in batch])
            for (_, future), row in zip(batch, rows, strict=True):
                if not future.done():
                    future.set_result(row)

    async def close(self) -> None:
        if self._worker is not None:
            await self._worker
        self._pool.shutdown(wait=True)


__all__ = ["Analyzer", "AnalyzerStats"]
