"""Embedders that fail, hang, are slow or answer oddly cost the embedding, never the decision."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conduit.core.models import Feedback, ModelArm
from conduit.engines.analyzer import Analyzer
from conduit.engines.router import Router

ARMS = [ModelArm("a:cheap", quality=0.6), ModelArm("b:dear", quality=0.8)]


def router(**options: object) -> Router:
    """Return a seeded router over two models."""
    return Router(ARMS, seed=3, environ={}, **options)  # type: ignore[arg-type]


class Failing:
    """An embedder that misbehaves in the way it was told."""

    id = "failing"
    dim = 16
    blocking = False

    def __init__(self, how: str) -> None:
        """Remember how to fail."""
        self.how = how

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Fail."""
        if self.how == "raises":
            raise RuntimeError("weights are gone")
        if self.how == "shape":
            return np.zeros((len(texts), 3), np.float32)
        return np.full((len(texts), self.dim), np.nan, np.float32)


@pytest.mark.parametrize("how", ["raises", "shape", "nan"])
async def test_a_failing_embedder_costs_the_embedding_only(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The decision is made from surface signals, says so, and nothing wrong is learned."""
    async with router(embedding_model=Failing(how)) as r:
        before = r.learner.snapshot().arms
        decision = await r.route("hello there")
        assert decision.features.degraded is not None
        assert "without an embedding" in decision.reasoning
        await r.feedback(decision, Feedback(quality_score=0.0))
        after = r.learner.snapshot().arms
        for model, state in before.items():
            for name, array in state.items():
                assert np.array_equal(array, after[model][name])
        assert r.get_stats().skipped == 1
        assert r.get_stats().degraded == 1
    assert len(caplog.records) == 1


class Slow:
    """An embedder that is done with a batch once the event loop has gone on."""

    id = "slow"
    dim = 16
    blocking = True

    def __init__(self) -> None:
        """Count batches, and those during which the loop ran."""
        self.batches: list[int] = []
        self.ticked = threading.Event()
        self.free = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Wait for the loop, which a call from its own thread would hold up."""
        self.batches.append(len(texts))
        self.ticked.clear()
        self.free += self.ticked.wait(2.0)
        rows = np.ones((len(texts), self.dim), np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


async def test_a_slow_embedder_never_holds_up_the_loop() -> None:
    """Fifty routes at once, and calibration, share batches in a thread while the loop goes on.

    `benchmarks/analysis.py` has the lag of the loop beside a real sentence transformer.
    """
    slow = Slow()
    async with router(embedding_model=slow) as r:

        async def tick() -> None:
            while True:
                slow.ticked.set()
                await asyncio.sleep(0.001)

        ticking = asyncio.ensure_future(tick())
        decisions = await asyncio.gather(*(r.route(f"text {i}") for i in range(50)))
        await r.fit([f"prompt {i}" for i in range(40)], {"a:cheap": np.ones(40)})
        ticking.cancel()
        assert len({d.id for d in decisions}) == 50
        assert max(slow.batches) > 8
        assert len(slow.batches) < 20
        assert slow.free == len(slow.batches)


class FailingOnSome(Failing):
    """An embedder that cannot read every text."""

    def __init__(self) -> None:
        """Fail on texts that tell it to."""
        super().__init__("some")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return rows that differ, of which some are not finite."""
        rows = [np.full(self.dim, np.nan if "odd" in t else 1 / 4, np.float32) for t in texts]
        return np.array(rows)


@pytest.mark.parametrize("per_text", [True, False])
async def test_a_calibration_learns_from_texts_that_were_embedded(per_text: bool) -> None:
    """A text without its embedding teaches nothing, as in feedback; the others do all they did."""
    texts = ["one", "odd two", "three", "four is odd"]
    quality = [0.9, 0.1, 0.8, 0.2]
    good, all_of_it = slice(0, None, 2), slice(None)

    def said(rows: slice) -> Any:
        return [{"a:cheap": q} for q in quality[rows]] if per_text else {"a:cheap": quality[rows]}

    some, whole = (router(embedding_model=FailingOnSome()) for _ in range(2))
    assert await some.fit(texts, said(all_of_it)) == 2
    assert await whole.fit(texts[good], said(good)) == 2
    theirs = whole.learner.snapshot().arms["a:cheap"]
    for name, array in some.learner.snapshot().arms["a:cheap"].items():
        np.testing.assert_array_equal(array, theirs[name])
    assert await router(embedding_model=Failing("raises")).fit(texts, said(all_of_it)) == 0


class Hanging(Slow):
    """A slow embedder that answers nobody until it is let go."""

    def __init__(self) -> None:
        """Hang from the start."""
        super().__init__()
        self.free_to_go = threading.Event()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Wait to be let go."""
        self.batches.append(len(texts))
        self.free_to_go.wait(30.0)
        return np.full((len(texts), self.dim), 0.25, np.float32)


async def test_a_hanging_embedder_is_waited_for_once() -> None:
    """Its decisions are made without an embedding, soon and then at once, until it answers."""
    hanging = Hanging()
    analyzer = Analyzer(hanging, patience_s=0.2)
    async with asyncio.timeout(10.0):
        r = router(analyzer=analyzer)
        waited = await asyncio.gather(*(r.route(f"text {i}") for i in range(5)))
        assert {d.features.degraded for d in waited} == {"the embedder took longer than 0.2 s"}
        began_s = time.perf_counter()
        for i in range(20):
            assert (await r.route(f"more {i}")).features.degraded is not None
        assert time.perf_counter() - began_s < 2.0  # twenty times the patience are four seconds
        asked = sum(hanging.batches)
        hanging.free_to_go.set()
        for _ in range(500):
            last = await r.route("at last")
            if last.features.degraded is None:
                break
            await asyncio.sleep(0.01)
        assert last.features.degraded is None
        assert sum(hanging.batches) <= asked + 10  # what nobody waits for any more is not embedded
        await r.close()


async def test_closing_waits_for_no_embedder_that_hangs() -> None:
    """A router closes although its embedder never answers."""
    hanging = Hanging()
    async with asyncio.timeout(10.0):
        async with router(analyzer=Analyzer(hanging, patience_s=0.1)) as r:
            assert (await r.route("text")).features.degraded is not None
    assert not hanging.free_to_go.is_set()
    hanging.free_to_go.set()


def test_event_loops_in_several_threads_share_a_slow_embedder() -> None:
    """Each loop gets its own rows as soon as they are there, whichever loop asked first."""
    hanging = Hanging()
    hanging.free_to_go.set()
    r = router(embedding_model=hanging)

    def ask(who: int) -> None:
        async def several() -> None:
            async with asyncio.timeout(3.0):
                for i in range(20):
                    assert (await r.route(f"{who}: {i}")).features.degraded is None

        asyncio.run(several())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    asyncio.run(r.close())


class Lengths(Failing):
    """An embedder whose rows lie in one array and are of any length."""

    def __init__(self, length: float) -> None:
        """Take how long rows are."""
        super().__init__("length")
        self.rows = np.zeros((1, self.dim), np.float32)
        self.length = length

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Write the row of the text where the last one was."""
        self.rows[:] = np.cos(np.arange(self.dim) + len(texts[0]))
        self.rows *= np.float32(self.length) / np.linalg.norm(self.rows)
        return self.rows


@pytest.mark.parametrize("length", [1e-15, 7.0, 1e7, 1e25])
def test_rows_of_any_length_count_as_rows_of_unit_length(length: float) -> None:
    """An embedder that does not normalise is no other embedder, and its array is its own."""
    unit, other = router(embedding_model=Lengths(1.0)), router(embedding_model=Lengths(length))
    wanted, found = (r.route_sync("one text").features for r in (unit, other))
    np.testing.assert_allclose(found.vector, wanted.vector, atol=1e-5)
    assert found.degraded is None
    kept = found.embedding.copy()
    other.route_sync("another text, longer")
    np.testing.assert_array_equal(found.embedding, kept)
