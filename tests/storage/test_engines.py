"""Errors of databases reach nobody in their drivers' words."""

from __future__ import annotations

import asyncio
import sqlite3

import asyncpg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from conduit.core.errors import StorageUnavailable
from conduit.storage.engines import translated


def _inside_asyncpg() -> Exception:
    """Return an error that the driver tripped over: no class of its own says whose it is."""
    try:
        asyncpg.utils._quote_ident(None)
    except Exception as error:  # noqa: BLE001  the test asks what becomes of it
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("cannot switch to state 12; another operation is in progress"),
        asyncpg.exceptions.ProtocolError("unexpected"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.InterfaceError("connection is closed"),
        asyncio.IncompleteReadError(b"", 4),
        ConnectionResetError(),
        TimeoutError(),
        sqlite3.OperationalError("database is locked"),
        SQLAlchemyError("lost"),
        _inside_asyncpg(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_driver_raises_is_an_outage(error: Exception) -> None:
    """No class of a driver's errors, and nothing raised inside one, passes untranslated."""
    with pytest.raises(StorageUnavailable) as caught, translated("look"):
        raise error
    assert caught.value.__cause__ is error


def test_our_own_bugs_are_no_outage() -> None:
    """An error that no driver raised stays what it is."""
    with pytest.raises(KeyError), translated("look"):
        raise KeyError("a bug")
