"""From a query to its features: cache, embedder, signals, heads."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conduit.cache.base import FeatureCache, MemoryCache, key_maker
from conduit.core.errors import InvalidInput
from conduit.core.models import Query, QueryFeatures, Vector, sealed
from conduit.engines import features, heads
from conduit.engines.embeddings.base import Embedder
from conduit.engines.embeddings.batcher import BATCH, PATIENCE_S, Batcher
from conduit.engines.embeddings.named import create_embedder

log = logging.getLogger(__name__)

Embedded = tuple[Vector | None, str | None]  # the row, or why there is none
UNIT = 1e-3  # a squared length that is nearer to 1 than this is left as it is
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
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Take an embedder (or its name); without a cache every text is analysed anew.

        A slow embedder is waited for no longer than `patience_s`; the query does without it then.
        """
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
        self._batcher = Batcher(self._embed_batch, patience_s=patience_s)

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
        embedded = await self._batcher.embed(text)
        if embedded is None:
            waited_s = self._batcher.patience_s
            embedded = self._missing(f"the embedder took longer than {waited_s:g} s")
        return self._kept(key, self._features(query, text, *embedded))

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
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return one vector per text, and whether it is whole, without holding up the loop.

        A vector without its embedding means something else: nothing may be learned from it.
        """
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
        return self._stacked(found), np.array([each.degraded is None for each in found], bool)

    def _stacked(self, found: Sequence[QueryFeatures]) -> NDArray[np.float32]:
        return np.stack([each.vector for each in found]) if found else np.zeros((0, self.dim), "f4")

    # parts -------------------------------------------------------------------------------------

    def _embedded(self, text: str) -> Embedded:
        return self._embed_batch([text])[0]

    def _embed_batch(self, texts: Sequence[str]) -> list[Embedded]:
        """Return an embedding or the reason for its absence per text; never raises."""
        try:
            # A copy: the embedder may write its next rows where these are.
            rows = np.array(self.embedder.embed(texts), np.float32)
        except Exception as error:  # noqa: BLE001  a user's embedder may raise anything; counted
            return [self._missing(f"the embedder raised {type(error).__name__}")] * len(texts)
        if rows.shape != (len(texts), self.embedder.dim):
            return [self._missing(f"the embedder returned shape {rows.shape}")] * len(texts)
        return [self._checked(row) for row in rows]

    def _checked(self, row: Vector) -> Embedded:
        """Return a row at unit length, whatever length the embedder gave it."""
        if abs(float(np.vdot(row, row)) - 1.0) <= UNIT or not row.any():
            return row, None
        wide = row.astype(np.float64)  # the squares of what float32 holds may be beyond it
        length = math.sqrt(float(wide.dot(wide)))
        if not math.isfinite(length):
            return self._missing("the embedder returned numbers that are not finite")
        return (wide / length).astype(np.float32), None

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
        if embedding is not None:
            embedding = sealed(embedding)
        return QueryFeatures.unread(
            sealed(vector),
            self.schema if problem is None else self.schema + "#surface",
            _tokens(signals.token_estimate, len(text), len(query.text)),
            heads.reader(signals, embedding, self._embedder_id),
            degraded=problem,
            embedding=embedding,
        )

    async def close(self) -> None:
        """Stop the thread of a slow embedder."""
        await self._batcher.close()


def _queries(texts: Sequence[str], tasks: Sequence[str | None] | None) -> list[Query]:
    if isinstance(texts, str):  # its letters would be texts of their own
        raise InvalidInput("texts must be a list", field="texts", expected="a list of texts")
    labels = tasks if tasks is not None else [None] * len(texts)
    if len(labels) != len(texts):
        wanted = f"{len(texts)} entries, one per text"
        raise InvalidInput(
            f"tasks must have {wanted}, got {len(labels)}", field="tasks", expected=wanted
        )
    return [Query(text=text, task=task) for text, task in zip(texts, labels, strict=True)]


def _tokens(estimate: int, looked_at: int, length: int) -> int:
    return int(estimate * length / looked_at) if looked_at < length else estimate


__all__ = ["Analyzer", "AnalyzerStats"]
