"""How Alembic reaches the database: DATABASE_URL, or the address that Conduit passes in.

Starters that come at the same time take turns: the first one migrates, the others find it done.
"""

import asyncio
import os
from logging.config import fileConfig

from alembic import context
from alembic.util import CommandError

from conduit.core.errors import ConfigurationError, StorageUnavailable
from conduit.storage.engines import engine_for, translated
from conduit.storage.migrations import run
from conduit.storage.tables import METADATA
from conduit.storage.urls import DatabaseUrl

if context.config.config_file_name is not None and "url" not in context.config.attributes:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)


def address() -> DatabaseUrl:
    """Return the database's address, or say what is missing."""
    url = context.config.attributes.get("url") or os.environ.get("DATABASE_URL")
    if not url:
        raise CommandError(
            "DATABASE_URL is not set; for example "
            "DATABASE_URL=postgresql://user:password@host:5432/database"
        )
    try:
        return DatabaseUrl.parse(url)
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def offline(url: DatabaseUrl) -> None:
    """Print the SQL instead of running it."""
    context.configure(
        dialect_name=url.backend,
        target_metadata=METADATA,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        context.run_migrations()


async def online(url: DatabaseUrl) -> None:
    """Migrate the database."""
    engine = engine_for(url)
    try:
        with translated("migrate the database"):
            async with engine.begin() as connection:
                await connection.run_sync(run, context, METADATA)
    except StorageUnavailable as error:
        raise CommandError(f"{error} (DATABASE_URL is {url.shown})") from error
    finally:
        await engine.dispose()


if context.is_offline_mode():
    offline(address())
else:
    asyncio.run(online(address()))
