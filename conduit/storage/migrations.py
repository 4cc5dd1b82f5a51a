"""Bringing a database to the newest schema, and telling when it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, text

from conduit.core.errors import ConfigurationError, IncompatibleState
from conduit.storage.ports import BEGINNING
from conduit.storage.tables import HEAD, create_schema
from conduit.storage.urls import DatabaseUrl

# Any number that nobody else uses, so that starters of Conduit wait for each other only.
_LOCK = 0x436F_6E64_7569_7401 % 2**63


def upgrade(url: str) -> None:
    """Run `alembic upgrade head` on a database; blocks."""
    from alembic import command  # takes 0.2 s to import, and most starts need no migration
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_scripts()))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    command.upgrade(config, "head")


def _scripts() -> Path:
    """Return the migrations, beside the package in a checkout and within it when installed."""
    package = Path(__file__).parent.parent
    within = package / "migrations"
    return within if within.is_dir() else package.parent / "migrations"


def run(connection: Connection, context: Any, metadata: MetaData) -> None:
    """Run Alembic's migrations within the transaction of a connection, one starter at a time."""
    context.configure(connection=connection, target_metadata=metadata)
    if connection.dialect.name == "postgresql":
        # Held to the end of the transaction, so it needs no session and works behind a pooler.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    with context.begin_transaction():
        context.run_migrations()


def stored_revision(connection: Connection) -> str | None:
    """Return the schema's revision, or None without a schema."""
    if connection.dialect.name == "postgresql":
        found = connection.scalar(text("SELECT to_regclass('alembic_version')::text"))
    else:
        found = connection.scalar(
            text("SELECT name FROM sqlite_master WHERE name = 'alembic_version'")
        )
    if found is None:
        return None
    revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if revision is None else str(revision)


def prepare_sqlite(connection: Connection) -> bool:
    """Build the schema in an empty file; return whether an older one has to be migrated."""
    revision = stored_revision(connection)
    if revision is None and not connection.scalar(text("SELECT count(*) FROM sqlite_master")):
        create_schema(connection)
        return False
    _refuse_newer(revision)
    return revision != HEAD


def check(connection: Connection, url: DatabaseUrl) -> None:
    """Raise ConfigurationError that says what to run, unless the schema is the newest."""
    revision = stored_revision(connection)
    _refuse_newer(revision)
    if revision != HEAD:
        found = "has no tables of Conduit" if revision is None else f"is at revision {revision}"
        raise ConfigurationError(
            f"the database at {url.shown} {found}, revision {HEAD} is needed: set DATABASE_URL "
            "and run `alembic upgrade head` (or ./migrate.sh, or `conduit db upgrade`)",
            field="database_url",
        )


# Places in the log are transaction numbers, which a server that a dump was restored to counts anew.
NEWEST = text("""
    SELECT max(newest.xid) FROM (SELECT DISTINCT router FROM decisions) r, LATERAL (
        SELECT xid FROM feedback WHERE router = r.router AND xid IS NOT NULL
        ORDER BY xid DESC LIMIT 1
    ) newest
    HAVING max(newest.xid) >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint
""")
MEND = """
    INSERT INTO routers (router) SELECT DISTINCT router FROM decisions ON CONFLICT DO NOTHING;
    UPDATE feedback SET xid = xid - {shift};
    UPDATE routers SET generation = generation + 1,
        pruned_xid = greatest(pruned_xid - {shift}, {beginning});
    UPDATE snapshots SET generation = generation + 1, xid = xid - {shift};
"""


def refuse_foreign_places(connection: Connection) -> None:
    """Raise IncompatibleState, with what mends it, if the log was written on another server."""
    newest = connection.scalar(NEWEST)
    if newest is not None:
        mend = " ".join(MEND.format(shift=newest + 1, beginning=BEGINNING).split())
        raise IncompatibleState(
            "the database was restored from another server, whose transaction numbers are ahead "
            f"of this one's, so new feedback would sort before the old; once, run: {mend}"
        )


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and revision > HEAD:
        raise IncompatibleState(
            "the database was made by a newer version of Conduit; upgrade this one",
            stored=revision,
            wanted=HEAD,
        )
