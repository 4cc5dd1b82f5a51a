"""What the commands work on: the settings of this folder, its database, and a router over both."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conduit.config import Settings
    from conduit.engines.router import Router
    from conduit.storage.base import Store


def names(text: str | None) -> list[str] | None:
    """Return the names between commas.

    >>> names("gpt-4o-mini, claude-haiku-4-5")
    ['gpt-4o-mini', 'claude-haiku-4-5']
    """
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]


def settings_here(**arguments: Any) -> Settings:
    """Return the settings of this folder and environment, with the keys of .env made known."""
    from conduit.catalogue.models import provider_key_names
    from conduit.config import export_dotenv, load_settings

    export_dotenv(provider_key_names(), os.environ)  # vendors look for keys there alone
    return load_settings(**arguments)


def database_url(settings: Settings) -> str | None:
    """Return the database that is there: the one that is set, else ./conduit.db if it exists."""
    from conduit.service import DEFAULT_DATABASE_URL

    if settings.database_url is not None:
        return settings.database_url
    file = Path(DEFAULT_DATABASE_URL.rpartition("/")[2])
    return DEFAULT_DATABASE_URL if file.is_file() else None


def needed_database_url(settings: Settings) -> str:
    """Return the database that is there, or say how to come by one."""
    from conduit.core.errors import ConfigurationError

    url = database_url(settings)
    if url is None:
        raise ConfigurationError(
            "there is no database here: set DATABASE_URL, go to the folder with conduit.db, or "
            "make one with `conduit db upgrade`",
            field="database_url",
        )
    return url


def shown_url(url: str) -> str:
    """Return an address without user and password."""
    from conduit.storage.urls import DatabaseUrl

    return DatabaseUrl.parse(url).shown


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[Store]:
    """Give the store of the database that is there, and close it."""
    from conduit.storage.database import open_store

    store = await open_store(needed_database_url(settings), store_text=settings.store_text)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_router(
    settings: Settings, models: Sequence[str] | None = None
) -> AsyncIterator[Router]:
    """Give a router that knows what the database has learned, where there is a database."""
    from conduit.feedback import FeedbackCollector
    from conduit.service import router_of

    if models is not None:
        settings = settings.model_copy(update={"models": arms_named(models, settings)})
    if database_url(settings) is None:
        async with router_of(settings) as router:
            yield router
        return
    async with opened_store(settings) as store:
        router = router_of(settings, store)
        FeedbackCollector(router)  # what is known of signals is read, written and kept as well
        async with router:
            yield router


def arms_named(models: Sequence[str], settings: Settings) -> tuple[Any, ...]:
    """Return the models named, with what the settings say of those among them."""
    from conduit.core.models import ModelArm

    known = {arm.id: arm for arm in settings.models or ()}
    return tuple(known.get(name) or ModelArm(name) for name in models)
