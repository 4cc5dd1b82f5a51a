"""`conduit doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from conduit.cli import workplace
from conduit.cli.shell import NOT_OK, AsJson, command, show, show_json, table

if TYPE_CHECKING:
    from conduit.config import Settings

Status = Literal["ok", "note", "wrong"]  # a note needs no action; something wrong does

NEEDED = ("pydantic-ai-slim", "sqlalchemy", "redis", "tokenizers", "genai-prices")
OPTIONAL = ("litellm", "sentence-transformers", "onnxruntime", "opentelemetry-api", "matplotlib")
TIMEOUT_S = 5.0
TRIES = 3  # a cache answers within milliseconds or counts as away; a busy machine may be late
BUILT_AT_LEAST = 1_735_689_600.0  # 2025-01-01: a clock before it was never set


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    status: Status
    found: str
    do: str = ""


@command
def doctor(as_json: AsJson = False) -> None:
    """Check keys, settings, database, Redis, versions, the offline model and the clock.

    Exits with 1 if something is wrong. A part that is merely not used is a note. No model is
    called, and no key is shown.

    Example:

      conduit doctor
    """
    findings = asyncio.run(_examined())
    ok = all(f.status != "wrong" for f in findings)
    if as_json:
        show_json({"ok": ok, "findings": findings})
    else:
        rows = [(f.what, f.status, f.found, f.do) for f in findings]
        show(table("", ("checked", "", "found ", "what to do "), rows))
    if not ok:
        raise typer.Exit(NOT_OK)


async def _examined() -> list[Finding]:
    from conduit.core.errors import ConduitError

    findings = list(_versions())
    try:
        settings = workplace.settings_here()
    except ConduitError as error:
        findings.append(Finding("settings", "wrong", str(error), "correct this setting"))
        return findings
    where = "defaults and environment" if settings.config is None else str(settings.config)
    findings.append(Finding("settings", "ok", where))
    findings += list(_keys(settings))
    checks: tuple[tuple[str, Callable[[Settings], Awaitable[Finding]]], ...] = (
        ("offline model", _offline_model),
        ("database", _database),
        ("redis", _redis),
    )
    for what, check in checks:
        try:
            findings.append(await asyncio.wait_for(check(settings), TIMEOUT_S))
        except TimeoutError:
            findings.append(Finding(what, "wrong", f"no answer within {TIMEOUT_S:g} s", UNREACHED))
        except ConduitError as error:
            findings.append(Finding(what, "wrong", str(error), UNREACHED))
    findings.append(_clock())
    findings.append(_secret(settings))
    return findings


UNREACHED = "check the address, and that the server runs and can be reached from here"


def _versions() -> Iterator[Finding]:
    from conduit import __version__

    python = ".".join(map(str, sys.version_info[:3]))
    recent = sys.version_info >= (3, 11)
    yield Finding(
        "python", "ok" if recent else "wrong", python, "" if recent else "use Python 3.11 or newer"
    )
    yield Finding("conduit", "ok", __version__)
    for name in NEEDED:
        version = _version(name)
        if version is None:
            yield Finding(name, "wrong", "not installed", "pip install conduit-router")
        else:
            yield Finding(name, "ok", version)
    there = [f"{name} {version}" for name in OPTIONAL if (version := _version(name)) is not None]
    yield Finding("extras", "ok" if there else "note", ", ".join(there) or "none installed")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _keys(settings: Settings) -> Iterator[Finding]:
    """Say which models the keys reach, and which configured models have no key."""
    from conduit.catalogue.models import provider_key_names, provider_of, providers_with_keys

    found = providers_with_keys(os.environ)
    if settings.models is None:
        yield Finding(
            "keys",
            "ok" if found else "note",
            ", ".join(found) or "none",
            ""
            if found
            else "put OPENAI_API_KEY=… (or another provider's) into .env; routing works without",
        )
        return
    yield Finding("keys", "ok" if found else "note", ", ".join(found) or "none")
    for arm in settings.models:
        provider = provider_of(arm.id)
        names = provider_key_names(provider) if provider else ()
        if arm.base_url is None and names and provider not in found:
            do = f"set {' or '.join(names)}, or remove the model"
            yield Finding(arm.id, "wrong", "its provider has no key", do)


async def _offline_model(settings: Settings) -> Finding:
    from conduit.core.models import Query
    from conduit.engines.analyzer import Analyzer

    name = settings.embedding_model or "the built-in static embedder"
    analyzer = Analyzer(settings.embedding_model)
    started = time.perf_counter()
    features = await analyzer.analyse(Query(text="What is 2+2?"))
    took_ms = 1_000 * (time.perf_counter() - started)
    await analyzer.close()
    if features.degraded is not None:
        return Finding(
            "offline model", "wrong", f"{name}: {features.degraded}", "reinstall conduit-router"
        )
    return Finding("offline model", "ok", f"{name}: {analyzer.dim} features in {took_ms:.0f} ms")


async def _database(settings: Settings) -> Finding:
    from conduit.service import DEFAULT_DATABASE_URL

    url = workplace.database_url(settings)
    if url is None:
        file = Path(DEFAULT_DATABASE_URL.rpartition("/")[2])
        found = f"none yet; a service will make {file}"
        return Finding("database", "note", found, "set DATABASE_URL for another one")
    async with workplace.opened_store(settings) as store:
        health = await store.health(router=settings.router_name)
    shown = workplace.shown_url(url)
    if not health.ok:
        return Finding("database", "wrong", f"{shown}: {health.detail}", UNREACHED)
    if health.journal_depth:
        found = f"{shown}; {health.journal_depth} pieces of feedback wait in the journal"
        return Finding("database", "note", found, "they are written while a service runs")
    return Finding("database", "ok", shown)


async def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return Finding("redis", "note", "not used", "set REDIS_URL to share features")
    from conduit.cache.redis import RedisCache

    cache = RedisCache(settings.redis_url)
    try:
        for _ in range(TRIES):
            await cache.get("conduit-doctor")
        state = cache.stats().circuit_state
    finally:
        await cache.close()
    if state != "closed":
        return Finding("redis", "wrong", "no answer; routing goes on without it", UNREACHED)
    return Finding("redis", "ok", "answers")


def _clock() -> Finding:
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < BUILT_AT_LEAST:
        return Finding("clock", "wrong", shown, "set the clock: ids and budgets depend on it")
    return Finding("clock", "ok", shown)


def _secret(settings: Settings) -> Finding:
    if settings.secret is None:
        found = "none: receipts are valid in one process only"
        return Finding("secret", "note", found, "set CONDUIT_SECRET when there are several")
    return Finding("secret", "ok", "set")
