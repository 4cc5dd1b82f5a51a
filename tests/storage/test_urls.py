"""Database addresses are understood as people write them, and never shown with a secret."""

from __future__ import annotations

import pytest

from conduit.core.errors import ConfigurationError
from conduit.storage.engines import engine_for
from conduit.storage.urls import DatabaseUrl

SECRET = "hunter2%40x"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///conduit.db", "conduit.db"),
        ("sqlite+aiosqlite:///conduit.db", "conduit.db"),
        ("sqlite:////var/lib/conduit.db", "/var/lib/conduit.db"),
        ("sqlite:///with%20space.db", "with space.db"),
    ],
)
def test_sqlite_addresses(url: str, path: str) -> None:
    """Both spellings of SQLite name a file."""
    parsed = DatabaseUrl.parse(url)
    assert (parsed.backend, parsed.path) == ("sqlite", path)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "POSTGRES"])
def test_postgres_addresses(scheme: str) -> None:
    """Every spelling of PostgreSQL names the same database, libpq's parameters included."""
    url = f"{scheme}://u%2F1:{SECRET}@db.example:6543/app?sslmode=require&application_name=x"
    parsed = DatabaseUrl.parse(url)
    assert (parsed.backend, parsed.host, parsed.port) == ("postgresql", "db.example", 6543)
    assert (parsed.user, parsed.password, parsed.database) == ("u/1", "hunter2@x", "app")
    assert (parsed.ssl, parsed.settings) == ("require", (("application_name", "x"),))
    assert parsed.pooled
    assert not DatabaseUrl.parse("postgresql://h:5432/d").pooled


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@h/d",
        f"postgresql://u:{SECRET}@h:notaport/d",
        f"postgresql://u:{SECRET}@h/d?sslrootcert=x",
        f"postgresql://u:{SECRET}@[h/d",
        f"postgresql://u:{SECRET}@h/d?connect_timeout=soon",
        f"sqlite://{SECRET}@h/conduit.db",
    ],
)
def test_what_is_wrong_is_said_without_the_password(url: str) -> None:
    """A wrong address is a ConfigurationError that shows no password, nor does its cause."""
    with pytest.raises(ConfigurationError) as caught:
        DatabaseUrl.parse(url)
    error: BaseException | None = caught.value
    assert caught.value.field == "database_url"
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__


def test_no_form_of_an_address_shows_the_password() -> None:
    """Neither repr, nor the shown form, nor the engine's repr holds user or password."""
    url = DatabaseUrl.parse(f"postgresql://someone:{SECRET}@db.example/app")
    assert url.shown == "postgresql://db.example/app"
    assert "hunter2" not in repr(url)
    assert "hunter2" not in repr(engine_for(url))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///", "sqlite:///no/d"])
def test_a_file_that_cannot_be(url: str) -> None:
    """An address without a lasting file says what to write instead."""
    with pytest.raises(ConfigurationError):
        engine_for(DatabaseUrl.parse(url))
