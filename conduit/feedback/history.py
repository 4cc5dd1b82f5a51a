"""The queries of each user in the last minutes, so that a second try can be seen.

A tracker keeps packed traces (hashes and a coarse embedding, never text, and a hash for the user),
no more per user, no more users and no more bytes than it is told, and forgets what is older than
the window.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np

from conduit.core.errors import InvalidInput, finite
from conduit.core.models import Vector
from conduit.feedback.retries import WINDOW_S, QueryTrace
from conduit.feedback.wording import Wording

MAX_PER_USER: Final = 20
MAX_USERS: Final = 10_000
MAX_BYTES: Final = 19_000_000
_ENTRY_BYTES: Final = 130  # of the objects around a packed trace, measured
_USER_BYTES: Final = 390  # of the objects around one user's entries, measured

_MAGIC: Final = b"CQT2"
# time, text hash, language, cues, kind of question, words of label, scale, and five lengths
_HEAD: Final = struct.Struct("<4sd8s2sBBBfHHHHH")
_STEPS: Final = 127  # of a number of the embedding, either way of zero


def user_key(user_id: str) -> bytes:
    """Return what stands for a user in a history; the id itself is not kept."""
    return blake2b(user_id.encode("utf-8", "replace"), digest_size=16).digest()


def pack_trace(trace: QueryTrace) -> bytes:
    """Return a trace without its user as bytes, its embedding in steps of 1/127 of the greatest."""
    scale, steps = _coarse(trace.embedding)
    decision, model = trace.decision_id.encode(), trace.model.encode()
    wording = trace.wording
    head = _HEAD.pack(
        _MAGIC,
        trace.at_s,
        trace.text_hash,
        wording.language.encode(),
        wording.cues,
        wording.asks,
        wording.label,
        scale,
        len(decision),
        len(model),
        len(wording.matter),
        len(wording.frame),
        len(steps),
    )
    return b"".join((head, decision, model, wording.matter, wording.frame, steps))


def unpack_trace(data: bytes, user_id: str) -> QueryTrace:
    """Return what `pack_trace` was given, for its user, or raise InvalidInput for other bytes."""
    try:
        magic, at_s, digest, language, cues, asks, label, scale, *sizes = _HEAD.unpack_from(data)
        if magic != _MAGIC or len(data) != _HEAD.size + sum(sizes):
            raise ValueError("foreign or cut")
        decision, model, matter, frame, steps = _cut(data, _HEAD.size, sizes)
        wording = Wording(
            matter=matter,
            frame=frame,
            language=language.rstrip(b"\0").decode(),
            cues=cues,
            asks=asks,
            label=label,
        )
        return QueryTrace(
            decision.decode(), user_id, at_s, digest, wording, _fine(scale, steps), model.decode()
        )
    except (struct.error, ValueError) as error:
        raise InvalidInput("not the bytes of a query's trace", field="trace") from error


def _cut(data: bytes, start: int, sizes: list[int]) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(data[start : start + size])
        start += size
    return parts


def _coarse(embedding: Vector | None) -> tuple[float, bytes]:
    if embedding is None:
        return 0.0, b""
    scale = float(np.abs(embedding).max(initial=0.0))
    steps = np.rint(embedding * (_STEPS / scale)) if scale else np.zeros(embedding.shape)
    return scale, steps.astype(np.int8).tobytes()


def _fine(scale: float, steps: bytes) -> Vector | None:
    """Return the embedding, at unit length again."""
    if not steps:
        return None
    vector = np.frombuffer(steps, np.int8).astype(np.float32)
    norm = float(np.sqrt(vector @ vector))
    if norm > 0.0:
        vector /= norm
    vector.flags.writeable = False
    return vector


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryStats:
    """What a tracker holds, as far as it knows, and how often its store failed."""

    users: int = 0
    traces: int = 0
    bytes: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Entries:
    packed: list[tuple[float, bytes]]  # at most `max_per_user`
    size: int = 0  # in bytes


class QueryHistoryTracker:
    """Keeps recent queries in this process; the user who asked longest ago goes first."""

    def __init__(
        self,
        *,
        window_s: float = WINDOW_S,
        max_per_user: int = MAX_PER_USER,
        max_users: int = MAX_USERS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Set the bounds; `max_bytes` includes what Python needs around the entries."""
        self.window_s = finite(window_s, "window_s", low=0.0)
        self._max_per_user = int(finite(max_per_user, "max_per_user", low=1))
        self._max_users = int(finite(max_users, "max_users", low=1))
        self._max_bytes = int(finite(max_bytes, "max_bytes", low=0))
        self._users: OrderedDict[bytes, _Entries] = OrderedDict()  # the latest to ask at the end
        self._bytes = 0

    async def add(self, trace: QueryTrace) -> None:
        """Remember a query; one without a user is not remembered."""
        if trace.user_id is None:
            return
        key = user_key(trace.user_id)
        entries = self._users.get(key)
        if entries is None:
            entries = self._users[key] = _Entries([])
            self._grow(entries, _USER_BYTES)
        self._users.move_to_end(key)
        packed = pack_trace(trace)
        entries.packed.append((trace.at_s, packed))
        self._grow(entries, len(packed) + _ENTRY_BYTES)
        if len(entries.packed) > self._max_per_user:
            self._drop_oldest(entries)
        self._prune(trace.at_s)

    async def recent(self, user_id: str | None, now: float) -> list[QueryTrace]:
        """Return the user's queries within the window before `now`, the latest first."""
        if user_id is None:
            return []
        entries = self._users.get(user_key(user_id))
        if entries is None:
            return []
        found = [packed for at_s, packed in entries.packed if 0.0 <= now - at_s <= self.window_s]
        traces = [unpack_trace(packed, user_id) for packed in found]
        return sorted(traces, key=lambda trace: trace.at_s, reverse=True)

    async def forget(self, user_id: str) -> None:
        """Forget everything about a user."""
        entries = self._users.pop(user_key(user_id), None)
        if entries is not None:
            self._bytes -= entries.size

    async def close(self) -> None:
        """Forget everything."""
        self._users.clear()
        self._bytes = 0

    def stats(self) -> HistoryStats:
        """Return how much is held."""
        traces = sum(len(entries.packed) for entries in self._users.values())
        return HistoryStats(users=len(self._users), traces=traces, bytes=self._bytes)

    def _prune(self, now: float) -> None:
        """Forget users beyond the bounds, and those whose last query is out of the window."""
        while self._users:
            entries = next(iter(self._users.values()))
            full = len(self._users) > self._max_users or self._bytes > self._max_bytes
            if not full and now - entries.packed[-1][0] <= self.window_s:
                return
            if full and len(self._users) == 1 and len(entries.packed) > 1:
                self._drop_oldest(entries)
                continue
            self._bytes -= entries.size
            self._users.popitem(last=False)

    def _drop_oldest(self, entries: _Entries) -> None:
        _, packed = entries.packed.pop(0)
        self._grow(entries, -len(packed) - _ENTRY_BYTES)

    def _grow(self, entries: _Entries, size: int) -> None:
        entries.size += size
        self._bytes += size
