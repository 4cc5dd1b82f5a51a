"""`conduit db`, `conduit forget` and `conduit quarantine`: the care of the database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conduit.cli import workplace
from conduit.cli.shell import NOT_OK, AsJson, command, say, show, show_json

if TYPE_CHECKING:
    from conduit.storage.base import Pruned

db = typer.Typer(
    name="db",
    help="Bring the database up to date, look at its schema, and delete what is old.",
    no_args_is_help=True,
)


@db.command("upgrade")
@command
def upgrade(as_json: AsJson = False) -> None:
    """Bring the database to this version's schema; make an SQLite file that is not there.

    Examples:

      conduit db upgrade

      DATABASE_URL=postgresql://app@db/conduit conduit db upgrade
    """
    from conduit.service import DEFAULT_DATABASE_URL
    from conduit.storage.engines import translated
    from conduit.storage.migrations import upgrade as run
    from conduit.storage.tables import HEAD

    url = workplace.settings_here().database_url or DEFAULT_DATABASE_URL
    before = asyncio.run(_revision(url)) if _is_there(url) else None
    if before != HEAD:
        with translated("migrate the database"):
            run(url)
    shown = workplace.shown_url(url)
    if as_json:
        show_json({"database": shown, "before": before, "revision": HEAD})
    elif before == HEAD:
        show(f"{shown} is at revision {HEAD} already")
    else:
        show(f"{shown} is now at revision {HEAD} (before: {before or 'no tables'})")


@db.command("check")
@command
def check(as_json: AsJson = False) -> None:
    """Say whether the database has this version's schema; exit with 1 if it has not.

    Example:

      conduit db check
    """
    from conduit.storage.tables import HEAD

    url = workplace.needed_database_url(workplace.settings_here())
    found = asyncio.run(_revision(url)) if _is_there(url) else None
    shown = workplace.shown_url(url)
    if as_json:
        show_json({"database": shown, "revision": found, "needed": HEAD, "ok": found == HEAD})
    else:
        show(f"{shown}: revision {found or 'none'}, needed {HEAD}")
    if found != HEAD:
        say("Run `conduit db upgrade`.")
        raise typer.Exit(NOT_OK)


def _is_there(url: str) -> bool:
    """Return whether looking at the database would not make its file."""
    from conduit.storage.urls import DatabaseUrl

    parsed = DatabaseUrl.parse(url)
    return parsed.backend != "sqlite" or Path(parsed.path).is_file()


async def _revision(url: str) -> str | None:
    """Return the schema's revision, or None where there is none."""
    from conduit.storage.engines import engine_for, translated
    from conduit.storage.migrations import stored_revision
    from conduit.storage.urls import DatabaseUrl

    engine = engine_for(DatabaseUrl.parse(url))
    try:
        with translated("look at the schema"):
            async with engine.connect() as connection:
                return await connection.run_sync(stored_revision)
    finally:
        await engine.dispose()


@db.command("prune")
@command
def prune(
    older_than: Annotated[str, typer.Option(help="Delete what is older: 30d, 12h.")] = "90d",
    as_json: AsJson = False,
) -> None:
    """Delete old texts, answers, decisions and feedback; what they taught stays learned.

    Old feedback is first folded into a snapshot, from which every router starts afterwards. That
    needs the settings of the routers that use this database (models, policy, embedder); without
    any database here there is nothing to prune. A decision that still takes feedback stays.

    Example:

      conduit db prune --older-than 30d
    """
    from conduit.cli.routing import seconds

    pruned = asyncio.run(_pruned(seconds(older_than)))
    if as_json:
        show_json(pruned)
    else:
        show(
            f"deleted {pruned.decisions:,} decisions, {pruned.responses:,} answers and "
            f"{pruned.feedback:,} pieces of feedback, which stay learned"
        )


async def _pruned(older_than_s: float) -> Pruned:
    settings = workplace.settings_here()
    workplace.needed_database_url(settings)
    async with workplace.opened_router(settings) as router:
        return await router.prune(older_than_s=older_than_s)


@command
def forget(
    user: Annotated[str, typer.Option(help="The user id as your application gave it.")],
    as_json: AsJson = False,
) -> None:
    """Delete everything about a user: decisions, answers, texts and feedback.

    What was learned from them goes too: every router rebuilds without them.

    Example:

      conduit forget --user u1
    """
    count = asyncio.run(_forgotten(user))
    result: dict[str, Any] = {"user": user, "feedback_deleted": count}
    if as_json:
        show_json(result)
    else:
        show(f"forgot {user!r}: {count:,} pieces of feedback deleted, with all that belongs to it")


async def _forgotten(user: str) -> int:
    from conduit.engines.rows import key_of

    key = key_of(user)
    async with workplace.opened_store(workplace.settings_here()) as store:
        return await store.forget(key)


@command
def quarantine(
    user: Annotated[str, typer.Option(help="The user id as your application gave it.")],
    undo: Annotated[bool, typer.Option("--undo", help="Let the user count again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Learn anew without a user, whose rows stay; with --undo they count again.

    Every router on this database rebuilds, and leaves out what the user says from now on.

    Examples:

      conduit quarantine --user u1

      conduit quarantine --user u1 --undo
    """
    asyncio.run(_quarantined(user, undo))
    if as_json:
        show_json({"user": user, "quarantined": not undo})
    else:
        show(f"{user!r} counts again" if undo else f"{user!r} is in quarantine")


async def _quarantined(user: str, undo: bool) -> None:
    from conduit.engines.rows import key_of

    key = key_of(user)
    async with workplace.opened_store(workplace.settings_here()) as store:
        await (store.release(key) if undo else store.quarantine(key))
