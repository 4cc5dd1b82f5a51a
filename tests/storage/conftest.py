"""Migrated databases for the tests of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from conduit.storage.migrations import upgrade


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of a migrated database of this test alone, of either kind."""
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path}/conduit.db"
    else:
        address = request.getfixturevalue("fresh_database")
    upgrade(address)
    return address


@pytest.fixture
def shared(fresh_database: str) -> str:
    """Give the address of a migrated PostgreSQL database of this test alone."""
    upgrade(fresh_database)
    return fresh_database


@pytest.fixture
def database(own_database: str) -> str:
    """Give the address of a migrated database on a server that the test may stop or kill."""
    upgrade(own_database)
    return own_database
