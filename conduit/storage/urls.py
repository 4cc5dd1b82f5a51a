"""Database addresses: the spellings that people use, and the form that may be shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from conduit.core.errors import ConfigurationError

POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
SQLITE_SCHEMES = ("sqlite", "sqlite+aiosqlite")
POOLER_PORT = 6543  # by convention, that of a transaction pooler
# libpq's parameters that mean something to asyncpg, under the name that it gives them.
_PARAMETERS = {"sslmode": "ssl", "ssl": "ssl", "connect_timeout": "timeout", "timeout": "timeout"}
_SETTINGS = ("application_name", "options", "search_path")
# Poolers' own hints to other clients; nothing here depends on them.
_IGNORED = (
    "channel_binding", "connection_limit", "pgbouncer", "pool_mode", "pool_timeout", "supa",
    "target_session_attrs",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUrl:
    """One database; its password is in no repr."""

    backend: str  # "sqlite" or "postgresql"
    path: str = ""  # of the SQLite file
    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str = ""
    ssl: str | None = None
    timeout_s: float | None = None
    settings: tuple[tuple[str, str], ...] = ()
    pooled: bool = False  # a transaction pooler is known to stand before the database

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the parts of an address, or raise ConfigurationError that shows no secret."""
        scheme = url.partition(":")[0].lower()
        try:
            if scheme in SQLITE_SCHEMES:
                return cls(backend="sqlite", path=_sqlite_path(url))
            if scheme in POSTGRES_SCHEMES:
                return cls._postgres(url)
        except ValueError as error:
            raise ConfigurationError(
                f"database_url is not a valid address ({type(error).__name__})",
                field="database_url",
            ) from None  # the cause would show the address, and with it the password
        raise ConfigurationError(
            f"database_url starts with {scheme[:20]!r}; known are sqlite:///file.db and "
            "postgresql://user:password@host:5432/database",
            field="database_url",
        )

    @classmethod
    def _postgres(cls, url: str) -> Self:
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        known = {_PARAMETERS[name]: value for name, value in given.items() if name in _PARAMETERS}
        for name in given:
            if name not in ("host", *_PARAMETERS, *_SETTINGS, *_IGNORED):
                raise ConfigurationError(
                    f"database_url has an unknown parameter {name!r}", field="database_url"
                )
        return cls(
            backend="postgresql",
            host=parts.hostname or given.get("host"),
            port=parts.port,
            user=_unquoted(parts.username),
            password=_unquoted(parts.password),
            database=unquote(parts.path.lstrip("/")),
            ssl=known.get("ssl"),
            timeout_s=float(known["timeout"]) if "timeout" in known else None,
            settings=tuple((n, v) for n, v in given.items() if n in _SETTINGS),
            pooled=parts.port == POOLER_PORT or given.get("pgbouncer", "") == "true",
        )

    @property
    def shown(self) -> str:
        """Return the address as messages may show it, without user and password."""
        if self.backend == "sqlite":
            return f"sqlite:///{self.path}"
        port = f":{self.port}" if self.port else ""
        return f"postgresql://{self.host or 'localhost'}{port}/{self.database}"

    @property
    def in_memory(self) -> bool:
        """Return whether SQLite would keep everything in this process."""
        return self.backend == "sqlite" and self.path in ("", ":memory:")


def _unquoted(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def _sqlite_path(url: str) -> str:
    rest = url.partition(":")[2]
    if not rest.startswith("///"):
        raise ConfigurationError(
            "an SQLite address has three slashes: sqlite:///conduit.db, or four for an absolute "
            "path: sqlite:////var/lib/conduit.db",
            field="database_url",
        )
    path = unquote(rest[3:].partition("?")[0])
    return path if path in ("", ":memory:") else str(Path(path).expanduser())
