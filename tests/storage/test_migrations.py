"""Every way to a schema leads to the same one, and a database without it says what to run."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from conduit.core.errors import ConfigurationError, IncompatibleState, StorageUnavailable
from conduit.storage.database import DatabaseStore, open_store
from conduit.storage.engines import engine_for
from conduit.storage.migrations import upgrade
from conduit.storage.ports import Rebuild
from conduit.storage.tables import HEAD, METADATA, create_schema
from conduit.storage.urls import DatabaseUrl
from conduit.testing.records import ManualClock, a_decision, a_row

ROOT = Path(__file__).parents[2]
STARTERS = 4
UNREACHABLE = "postgresql://u:hunter2@127.0.0.1:1/x"

# Everything that PostgreSQL knows of a schema, as text.
PG_SCHEMA = """
SELECT 'column', table_name::text, column_name::text,
       concat_ws(' ', data_type, collation_name, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', tablename::text, indexname::text, indexdef
FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'view', viewname::text, '', definition
FROM pg_views WHERE schemaname = 'public'
ORDER BY 1, 2, 3
"""


def migrate(url: str | None, *arguments: str) -> subprocess.Popen[str]:
    """Start `migrate.sh`, or Alembic with arguments, on a database."""
    command = [sys.executable, "-m", "alembic", *arguments] if arguments else ["./migrate.sh"]
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if url is not None:
        environment["DATABASE_URL"] = url
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sqlite_schema(path: Path) -> list[tuple[str, str, str]]:
    """Return a file's schema: tables column by column, so that their order does not matter."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    connection.close()
    return sorted((kind, name, _normal(sql or "")) for kind, name, sql in rows)


def _normal(sql: str) -> str:
    return ",".join(sorted(part.strip("()") for part in re.sub(r"\s", "", sql).split(",")))


async def on(url: str, work: Any) -> Any:
    """Run synchronous work on a connection of a database."""
    engine = engine_for(DatabaseUrl.parse(url))
    async with engine.begin() as connection:
        result = await connection.run_sync(work)
    await engine.dispose()
    return result


async def pg_schema(url: str) -> list[tuple[Any, ...]]:
    """Return everything that PostgreSQL knows of the schema."""
    connection = await asyncpg.connect(url)
    rows = [tuple(row) for row in await connection.fetch(PG_SCHEMA)]
    await connection.close()
    return rows


def test_the_head_is_the_newest_migration() -> None:
    """The revision that the code asks for is the one that migrating leads to, in one line."""
    scripts = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    assert scripts.get_heads() == [HEAD]
    assert all(not isinstance(s.down_revision, tuple) for s in scripts.walk_revisions())


async def test_sqlite_is_made_as_it_would_be_migrated(tmp_path: Path) -> None:
    """A new file has the schema that `alembic upgrade head` builds, to the last constraint."""
    made, migrated = tmp_path / "made.db", tmp_path / "migrated.db"
    async with DatabaseStore(f"sqlite:///{made}"):
        pass
    await asyncio.to_thread(upgrade, f"sqlite:///{migrated}")
    assert sqlite_schema(made) == sqlite_schema(migrated)
    assert len(sqlite_schema(made)) > 20


async def test_postgres_is_migrated_to_what_the_code_describes(fresh_database: str) -> None:
    """Migrating PostgreSQL builds what the tables in the code describe, to the last constraint."""
    await asyncio.to_thread(upgrade, fresh_database)
    migrated = await pg_schema(fresh_database)
    await on(fresh_database, _rebuild)
    assert await pg_schema(fresh_database) == migrated
    assert len(migrated) > 100


def _rebuild(connection: Any) -> None:
    connection.execute(text("DROP SCHEMA public CASCADE"))
    connection.execute(text("CREATE SCHEMA public"))
    create_schema(connection)


async def test_downgrading_removes_everything(tmp_path: Path) -> None:
    """The first migration can be undone."""
    path = tmp_path / "conduit.db"
    await asyncio.to_thread(upgrade, f"sqlite:///{path}")
    down = migrate(f"sqlite:///{path}", "downgrade", "base")
    _, errors = down.communicate(timeout=300)
    assert down.returncode == 0, errors
    assert [name for _, name, _ in sqlite_schema(path) if name in METADATA.tables] == []


@pytest.mark.parametrize(("backend", "starters"), [("sqlite", 2), ("postgresql", STARTERS)])
def test_starters_may_come_at_once(
    backend: str, starters: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Several `migrate.sh` at the same time all succeed, and one of them migrates."""
    if backend == "sqlite":
        url = f"sqlite:///{tmp_path}/conduit.db"
    else:
        url = request.getfixturevalue("fresh_database")
    running = [migrate(url) for _ in range(starters)]
    outcomes = [(*s.communicate(timeout=300), s.returncode) for s in running]
    assert [code for *_, code in outcomes] == [0] * starters, outcomes
    assert sum("Running upgrade" in errors for _, errors, _ in outcomes) == 1


async def test_openers_of_a_new_file_may_come_at_once(tmp_path: Path) -> None:
    """Several stores that open the same new file all work."""
    url = f"sqlite:///{tmp_path}/conduit.db"
    stores = [DatabaseStore(url) for _ in range(STARTERS)]
    await asyncio.gather(*(store.open() for store in stores))
    assert all([(await store.health()).ok for store in stores])
    await asyncio.gather(*(store.close() for store in stores))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (None, "DATABASE_URL is not set"),
        (UNREACHABLE, "Connect call failed"),
        ("mysql://u:hunter2@h/x", "known are sqlite:///file.db and postgresql://"),
    ],
)
def test_migrating_says_what_is_missing(url: str | None, said: str) -> None:
    """Without a usable address `migrate.sh` fails, says why, and shows no password."""
    process = migrate(url)
    out, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert said in out + errors
    assert "Traceback" not in out + errors
    assert "hunter2" not in out + errors


def test_the_schema_can_be_printed_as_sql() -> None:
    """`alembic upgrade head --sql` prints plain SQL with every table and the revision."""
    process = migrate("postgresql://h/x", "upgrade", "head", "--sql")
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    for table in METADATA.tables:
        assert f"CREATE TABLE {table} (" in out
    assert "CREATE VIEW routing_analytics" in out
    assert out.rpartition("version_num")[0].endswith("WHERE alembic_version.")
    assert f"UPDATE alembic_version SET version_num='{HEAD}'" in out


async def test_postgres_is_not_migrated_by_itself(fresh_database: str) -> None:
    """Opening an empty PostgreSQL says which command to run, and changes nothing."""
    with pytest.raises(ConfigurationError, match=r"alembic upgrade head.*migrate\.sh"):
        await open_store(fresh_database)
    assert await pg_schema(fresh_database) == []


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_a_newer_schema_is_left_alone(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A database that a newer version made is refused, and nothing in it changes."""
    if backend == "sqlite":
        url = f"sqlite:///{tmp_path}/conduit.db"
    else:
        url = request.getfixturevalue("fresh_database")
    await asyncio.to_thread(upgrade, url)
    await on(url, lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(IncompatibleState) as caught:
        await open_store(url)
    assert (caught.value.stored, caught.value.wanted) == ("9999", HEAD)


async def test_an_sqlite_file_without_a_revision_is_migrated(tmp_path: Path) -> None:
    """A file that holds something else gets our tables beside it."""
    path = tmp_path / "conduit.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    async with DatabaseStore(f"sqlite:///{path}") as store:
        assert (await store.health()).ok
    names = {name for _, name, _ in sqlite_schema(path)}
    assert {"theirs", "feedback", "alembic_version"} <= names


async def test_a_restored_dump_is_noticed(fresh_database: str) -> None:
    """Rows from another server's future are refused with the statement that mends them."""
    await asyncio.to_thread(upgrade, fresh_database)
    async with DatabaseStore(fresh_database, clock=ManualClock()) as store:
        for i in range(3):
            decision = a_decision("r", seed=i)
            await store.append(a_row(decision, f"f{i}", decision=decision))
        page = await store.tail("r")
        await store.save_snapshot("r", page[1].cursor, b"two rows")
    for table in ("feedback", "snapshots"):
        await on(
            fresh_database, lambda c, t=table: c.execute(text(f"UPDATE {t} SET xid = xid + 1e9"))
        )
    with pytest.raises(IncompatibleState, match="another server") as caught:
        await open_store(fresh_database)
    mend = str(caught.value).partition("run: ")[2]
    await on(fresh_database, lambda c: [c.execute(text(s)) for s in mend.split(";") if s.strip()])
    async with DatabaseStore(fresh_database, clock=ManualClock()) as store:
        decision = a_decision("r", seed=3)
        await store.append(a_row(decision, "f3", decision=decision))
        assert [e.row.feedback_id for e in await store.tail("r")] == ["f0", "f1", "f2", "f3"]
        found = await store.load_snapshot("r")
        assert found is not None
        rest = await store.tail("r", found.cursor)
        assert [e.row.feedback_id for e in rest] == ["f2", "f3"]
        with pytest.raises(Rebuild):
            await store.tail("r", page[2].cursor)


async def test_an_unreachable_database_is_a_typed_error() -> None:
    """Opening a database that is not there is StorageUnavailable, without its password."""
    with pytest.raises(StorageUnavailable, match="Connect call failed") as caught:
        await open_store(UNREACHABLE)
    assert "hunter2" not in str(caught.value)
