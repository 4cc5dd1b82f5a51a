"""A service closes cleanly whatever state its database is in, and leaves nothing unsaid."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from conduit.core.errors import ConduitError, StorageUnavailable
from conduit.core.models import ModelArm
from conduit.engines.executor import FunctionExecutor
from conduit.engines.router import Router
from conduit.service import Service, create_service
from conduit.storage import sqlite


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
