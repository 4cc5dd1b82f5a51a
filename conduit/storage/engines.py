"""SQLAlchemy engines for SQLite and PostgreSQL, and foreign errors in our own words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from conduit.core.errors import ConfigurationError, InvalidInput, StorageUnavailable
from conduit.storage.urls import DatabaseUrl

POOL_SIZE = 4  # connections per store, the writer's included
POOL_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
GOODBYE_TIMEOUT_S = 1.0  # until a connection is dropped whose server does not take leave
BUSY_TIMEOUT_S = 10.0  # SQLite: how long a writer waits for its turn
READ_ONLY = "conduit_read_only"  # an engine option: such transactions take no write lock

# SQLSTATE classes that blame the value (22 data, 23 integrity), not the server.
_VALUE_CLASSES = ("22", "23")
_BLAME_A_VALUE = (IntegrityError, DataError, sqlite3.IntegrityError, sqlite3.DataError)
_DRIVERS = frozenset({"sqlalchemy", "asyncpg", "aiosqlite", "sqlite3"})


def engine_for(url: DatabaseUrl) -> AsyncEngine:
    """Return an engine that has not connected yet."""
    return _sqlite_engine(url) if url.backend == "sqlite" else _postgres_engine(url)


def _sqlite_engine(url: DatabaseUrl) -> AsyncEngine:
    if url.in_memory:
        raise ConfigurationError(
            "sqlite:///:memory: would be lost with each connection; name a file, or give a "
            "Router no store, which keeps everything in memory",
            field="database_url",
        )
    if not Path(url.path).absolute().parent.is_dir():
        raise ConfigurationError(
            f"there is no directory {str(Path(url.path).absolute().parent)!r} for the database",
            field="database_url",
        )
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=url.path),
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},
        hide_parameters=True,
        pool_size=POOL_SIZE,
        pool_timeout=POOL_TIMEOUT_S,
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # FULL: what was acknowledged survives a power cut, not only a crash of this process.
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get(READ_ONLY, False)
    # A transaction that reads first and writes later could not wait for another writer.
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _polite_class() -> type[Any]:
    """Return the class of asyncpg's connections that do not wait for ever while they close."""
    from asyncpg import Connection as Driver  # takes 0.1 s

    class Polite(Driver):  # type: ignore[misc]
        async def close(self, *, timeout: float | None = GOODBYE_TIMEOUT_S) -> None:  # noqa: ASYNC109
            with suppress(TimeoutError):  # it was aborted
                await super().close(timeout=timeout)

    return Polite


def _postgres_engine(url: DatabaseUrl) -> AsyncEngine:
    arguments: dict[str, Any] = {
        # Transaction poolers (port 6543) hand each transaction to another session, so nothing may
        # be prepared under a name: no caches, and the unnamed statement for SQLAlchemy.
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: "",
        "connection_class": _polite_class(),
        "timeout": url.timeout_s or CONNECT_TIMEOUT_S,
        "server_settings": {"application_name": "conduit", **dict(url.settings)},
    }
    if url.ssl is not None:
        arguments["ssl"] = url.ssl
    return create_async_engine(
        URL.create(
            "postgresql+asyncpg",
            username=url.user,
            password=url.password,
            host=url.host,
            port=url.port,
            database=url.database or None,
        ),
        connect_args=arguments,
        hide_parameters=True,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_timeout=POOL_TIMEOUT_S,
        pool_use_lifo=True,
        pool_pre_ping=True,  # connections of before an outage are found out, not handed out
    )


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn every error of a database into InvalidInput or StorageUnavailable.

    The message names what failed and why in a word; statements, values and addresses stay out.
    """
    try:
        yield
    except Exception as error:
        if _foreign(error):
            raise _in_our_words(doing, error) from error
        raise


def _foreign(error: Exception) -> bool:
    """Return whether an error is a driver's: one of its classes, or anything raised inside it.

    A reply that broke off or was damaged surfaces as whatever the driver's parser tripped over.
    """
    if isinstance(error, SQLAlchemyError | sqlite3.Error | OSError | EOFError):
        return True  # OSError: refused, timed out
    classes = {c.__module__.partition(".")[0] for c in type(error).__mro__}
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    raised_in = "" if place is None else str(place.tb_frame.f_globals.get("__name__"))
    return not _DRIVERS.isdisjoint({*classes, raised_in.partition(".")[0]})


def _in_our_words(doing: str, error: Exception) -> InvalidInput | StorageUnavailable:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state = str(getattr(cause, "sqlstate", None) or "")
    if isinstance(error, _BLAME_A_VALUE) or state.startswith(_VALUE_CLASSES):
        return InvalidInput(f"the database refused a value, so it could not {doing}")
    return StorageUnavailable(f"could not {doing}: {_reason(cause, state)}")


def _reason(cause: BaseException, state: str) -> str:
    """Return a few words that hold no value and no address."""
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return f"{cause.strerror} ({type(cause).__name__})"
    inner = cause.__cause__ if cause.__cause__ is not None else cause
    if isinstance(inner, sqlite3.OperationalError):
        return str(inner)  # "database is locked", "no such table": SQLite names no values here
    return type(inner).__name__ + (f", SQLSTATE {state}" if state else "")
