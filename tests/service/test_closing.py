"""A service closes cleanly whatever state its database is in, and leaves nothing unsaid."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conduit.core.errors import ConduitError, ConfigurationError, StorageUnavailable
from conduit.core.models import ModelArm, RoutingResult
from conduit.engines.budget import Budget
from conduit.engines.executor import FunctionExecutor
from conduit.engines.router import Router
from conduit.service import Service, create_service
from conduit.service import service as module
from conduit.storage import sqlite
from conduit.testing import Fault, FaultKind, LocalProvider, SimulatedModel


async def service_in(directory: Path) -> tuple[Service, list[bool]]:
    """Return a service whose data is in a directory, and what says that its executor closed."""
    executor = FunctionExecutor(lambda model, prompt: f"an answer to {prompt}")
    closed: list[bool] = []
    close = executor.close

    async def closing() -> None:
        closed.append(True)
        await close()

    executor.close = closing  # type: ignore[method-assign]
    service = await create_service(
        models=[ModelArm("acme:a"), ModelArm("acme:b")],
        database_url=f"sqlite:///{directory}/conduit.db",
        journal_path=str(directory / "journal"),
        executor=executor,
    )
    return service, closed


async def test_closing_during_an_outage_lets_go_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the database cannot take goes to the journal, and the next service writes it."""
    monkeypatch.setattr(sqlite, "WAIT_S", 0.1)
    service, closed = await service_in(tmp_path)
    before = set(asyncio.all_tasks())
    other = sqlite3.connect(tmp_path / "conduit.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = await service.complete("a question")
    await service.close()
    assert closed == [True]
    assert asyncio.all_tasks() <= before
    other.execute("COMMIT")
    other.close()
    heir, _ = await service_in(tmp_path)
    async with asyncio.timeout(30):
        while (await heir.health()).store.journal_depth:  # noqa: ASYNC110  health is asked for
            await asyncio.sleep(0.02)
    assert (await heir.submit_feedback(answer.id, quality_score=1.0)).status == "stored"
    await heir.close()


async def test_closing_goes_on_when_a_part_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of one part is told, after every other part was let go of."""
    service, closed = await service_in(tmp_path)

    async def failing() -> None:
        raise OSError("the cache says so")

    monkeypatch.setattr(service.router.cache, "close", failing)
    await service.complete("a question")
    with pytest.raises(OSError, match="the cache says so"):
        await service.close()
    assert closed == [True]
    with pytest.raises(StorageUnavailable, match="closed"):
        await service.router.store.flush()


@pytest.mark.parametrize("wrong", [{"bandit_algorithm": "nonsense"}, {"timeout_s": -1.0}])
async def test_a_service_that_cannot_be_made_leaves_nothing_open(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """What was opened for it is closed again: a database has no writer left, and no lock."""
    before = set(asyncio.all_tasks())
    with pytest.raises(ConduitError):
        await create_service(
            models=[ModelArm("acme:a")],
            database_url=f"sqlite:///{tmp_path}/conduit.db",
            journal_path=str(tmp_path / "journal"),
            **wrong,
        )
    assert asyncio.all_tasks() <= before


async def test_a_service_that_cannot_start_is_closed(tmp_path: Path) -> None:
    """Entering fails where what was learned cannot be read; nobody would leave it then."""
    service, closed = await service_in(tmp_path)
    await service.router.store.close()
    entering = Service(
        Router([ModelArm("acme:a")], store=service.router.store, environ={}), service.executor
    )
    service.router.store.load_snapshot = _broken  # type: ignore[method-assign]
    with pytest.raises(OSError, match="unreadable"):
        async with entering:
            pass
    assert closed == [True]
    await service.close()


async def _broken(*_: object, **__: object) -> None:
    raise OSError("unreadable")


HUNG = SimulatedModel("hung", 1.0, 1.0, fault=Fault(FaultKind.SLOW_HEADERS, delay_s=3600.0))


async def test_what_is_under_way_ends_before_a_service_does(tmp_path: Path) -> None:
    """An answer, a batch, a stream and a calibration come to their end; nothing new begins."""
    before = set(asyncio.all_tasks())
    asked, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def answer(model: str, prompt: str) -> str:
        asked.release()
        await go_on.wait()
        return f"an answer to {prompt}"

    service = await create_service(
        models=[ModelArm("acme:a")],
        database_url=f"sqlite:///{tmp_path}/conduit.db",
        executor=FunctionExecutor(answer),
        timeout_s=3600.0,
    )

    async def read() -> str:
        async with service.stream("streamed") as stream:
            return "".join([piece async for piece in stream])

    questions = [{"text": f"calibration {n}", "expected": "an"} for n in range(3)]
    one = asyncio.ensure_future(service.complete("one"))
    batch = asyncio.ensure_future(
        service.complete_batch(["first", "second"], concurrency=1, progress=False)
    )
    stream = asyncio.ensure_future(read())
    calibration = asyncio.ensure_future(service.calibrate(questions, concurrency=1, progress=False))
    async with asyncio.timeout(60):
        for _ in range(4):
            await asked.acquire()
        closing = asyncio.ensure_future(service.close())
        await asyncio.sleep(0)
        with pytest.raises(ConfigurationError, match="closed"):
            await service.complete("too late")
        go_on.set()
        assert (await one).data == "an answer to one"
        assert await stream == "an answer to streamed"
        first, second = await batch
        assert isinstance(first, RoutingResult)
        assert isinstance(second, ConfigurationError)
        with pytest.raises(ConfigurationError, match="goes on where it was"):
            await calibration
        await closing
    assert asyncio.all_tasks() <= before
    kept = sqlite3.connect(tmp_path / "conduit.db")
    assert kept.execute("SELECT count(*) FROM responses WHERE error IS NULL").fetchone() == (3,)
    assert kept.execute("SELECT count(*) FROM calibrations WHERE outcome <> ''").fetchone() == (1,)
    kept.close()


async def test_what_does_not_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call whose provider hangs fails when the service closes; its model is not blamed."""
    monkeypatch.setattr(module, "CLOSE_S", 0.01)
    async with LocalProvider([HUNG]) as provider:
        service = await create_service(
            models=list(provider.arms),
            database_url=f"sqlite:///{tmp_path}/conduit.db",
            budgets=[Budget(1.0, per="total")],
            timeout_s=3600.0,
        )
        asking = asyncio.ensure_future(service.complete("hello"))
        calibrating = asyncio.ensure_future(
            service.calibrate([{"text": "hello", "expected": "x"}], progress=False)
        )
        async with asyncio.timeout(60):
            while len(provider.requests) < 2:  # noqa: ASYNC110  they are on their way
                await asyncio.sleep(0.01)
            await service.close()
            with pytest.raises(ConduitError):
                await asking
            with pytest.raises(ConduitError):
                await calibrating
    kept = sqlite3.connect(tmp_path / "conduit.db")
    assert kept.execute("SELECT count(*) FROM feedback").fetchone() == (0,)
    assert kept.execute("SELECT count(*) FROM calibrations WHERE outcome <> ''").fetchone() == (0,)
    ((spent, reserved),) = kept.execute("SELECT spent_usd, reserved_usd FROM budgets").fetchall()
    assert spent > 0.0  # the worst case: nobody knows what the provider asks for
    assert reserved == pytest.approx(0.0)
    kept.close()


async def test_closing_within_ones_own_stream_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads a stream and closes the service in the middle would wait for themselves."""
    monkeypatch.setattr(module, "CLOSE_S", 3600.0)
    service, closed = await service_in(tmp_path)
    async with asyncio.timeout(60):
        async with service.stream("a question") as stream:
            async for _ in stream:
                break
            await service.close()
    assert closed == [True]


async def test_what_is_given_up_asks_nobody_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls and streams end with the service, not with their models: nobody pays for more."""
    monkeypatch.setattr(module, "CLOSE_S", 0.01)
    worlds = [replace(HUNG, name=name) for name in ("first", "second", "third")]
    async with LocalProvider(worlds) as provider:
        service = await create_service(
            models=list(provider.arms),
            database_url=f"sqlite:///{tmp_path}/conduit.db",
            budgets=[Budget(1.0, per="total")],
            timeout_s=3600.0,
        )

        async def read() -> None:
            async with service.stream("streamed") as stream:
                async for _ in stream:
                    pass

        asking = [asyncio.ensure_future(service.complete(f"{n}")) for n in range(3)]
        asking.append(asyncio.ensure_future(read()))
        async with asyncio.timeout(60):
            while len(provider.requests) < len(asking):  # noqa: ASYNC110  they are on their way
                await asyncio.sleep(0.01)
            await service.close()
            asked = len(provider.requests)
            for error in await asyncio.gather(*asking, return_exceptions=True):
                assert isinstance(error, ConfigurationError), error
                assert "closed" in str(error)
            await asyncio.sleep(0.1)
        assert len(provider.requests) == asked
        assert not any("not booked" in record.message for record in caplog.records)
    kept = sqlite3.connect(tmp_path / "conduit.db")
    ((reserved,),) = kept.execute("SELECT reserved_usd FROM budgets").fetchall()
    assert reserved == pytest.approx(0.0)
    kept.close()
