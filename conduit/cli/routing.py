"""`conduit route`, `explain`, `models` and `stats`: what would be chosen, and what was."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from conduit.cli import workplace
from conduit.cli.shell import (
    AsJson,
    command,
    dollars,
    number,
    say,
    show,
    show_json,
    table,
    wrong,
)

if TYPE_CHECKING:
    from conduit.catalogue.models import KnownModel
    from conduit.core.events import DecisionRecord
    from conduit.core.models import RoutingDecision
    from conduit.storage.base import ResponseRecord, RouterStats

Preference = Literal["balanced", "quality", "cost", "speed"]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


def seconds(text: str) -> float:
    """Return a span such as 30d, 12h or 90m in seconds.

    >>> seconds("2d")
    172800.0
    """
    value, unit = text[:-1], text[-1:]
    try:
        span = float(value) * _UNITS_S[unit]
    except (ValueError, KeyError):
        wrong(f"{text!r} is no span of time; write 30d, 12h or 90m")
    if not 0.0 <= span < float("inf"):
        wrong(f"{text!r} is no span of time that has passed")
    return span


@command
def route(
    text: Annotated[str, typer.Argument(help="The query; - reads it from standard input.")],
    models: Annotated[str | None, typer.Option(help="Models to choose among: a,b,c.")] = None,
    prefer: Annotated[Preference | None, typer.Option(help="What matters most.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Most dollars for this query.")] = None,
    max_latency: Annotated[float | None, typer.Option(help="Most seconds.")] = None,
    min_quality: Annotated[float | None, typer.Option(help="Least quality, 0 to 1.")] = None,
    provider: Annotated[str | None, typer.Option(help="The provider to prefer.")] = None,
    task: Annotated[str | None, typer.Option(help="What kind of task it is, if you know.")] = None,
    strict: Annotated[bool, typer.Option(help="Fail rather than relax a limit.")] = False,
    seed: Annotated[int | None, typer.Option(help="Make the choice repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say which model should answer a query, and why. No model is called.

    A database that is there (DATABASE_URL or ./conduit.db) is asked for what was learned, and
    keeps the decision, so that `conduit explain` finds it.

    Examples:

      conduit route "What is 2+2?"

      conduit route "Summarise this" --models gpt-4o-mini,claude-haiku-4-5 --prefer cost

      conduit route "Draft a contract" --min-quality 0.8 --max-cost 0.01 --json
    """
    from conduit.core.models import Preferences, Query, QueryConstraints

    limits: dict[str, Any] = {
        "max_cost": max_cost,
        "max_latency": max_latency,
        "min_quality": min_quality,
        "preferred_provider": provider,
    }
    given = {name: value for name, value in limits.items() if value is not None}
    query = Query(
        text=sys.stdin.read() if text == "-" else text,
        task=task,
        preferences=None if prefer is None else Preferences.of(prefer),
        constraints=QueryConstraints(**given, strict=strict) if given or strict else None,
    )
    decision, note = asyncio.run(_routed(query, workplace.names(models), seed))
    if as_json:
        show_json(_decision_fields(decision))
        return
    _show_decision(decision)
    if prefer == "speed" and all(e.latency_s is None for e in decision.estimates.values()):
        say("No latency is known yet, so speed weighs nothing: it is learned from answers.")
    if note:
        say(note)


async def _routed(
    query: Any, models: list[str] | None, seed: int | None
) -> tuple[RoutingDecision, str]:
    settings = workplace.settings_here(seed=seed)
    url = workplace.database_url(settings)
    async with workplace.opened_router(settings, models) as router:
        decision = await router.route(query)
        if url is None:
            return decision, "No database here, so nothing that was learned took part."
        count = router.get_stats().outcomes
        return decision, (
            f"Learned from {count:,} outcomes in {workplace.shown_url(url)}; "
            f"`conduit explain {decision.id}` shows this decision again."
        )


def _show_decision(decision: RoutingDecision) -> None:
    chosen = decision.selected_model
    ranked = sorted(decision.estimates.values(), key=lambda e: -e.utility)
    rows = [
        (
            f"{'*' if e.model == chosen else ' '} {e.model}",
            f"{e.quality:.2f} ± {e.quality_sd:.2f}",
            dollars(e.cost_usd),
            number(e.latency_s),
            f"{e.utility:.3f}",
            f"{e.propensity:.3f}",
        )
        for e in ranked
    ]
    columns = ("model", "quality", "cost", "seconds", "utility", "chosen with p")
    show(chosen, table("", columns, rows), decision.reasoning)
    for gone in decision.excluded:
        show(f"not a candidate: {gone.model} ({gone.reason})")


def _decision_fields(decision: RoutingDecision) -> dict[str, Any]:
    return {
        "id": decision.id,
        "model": decision.selected_model,
        "confidence": decision.confidence,
        "propensity": decision.propensity,
        "reasoning": decision.reasoning,
        "constraints_relaxed": list(decision.relaxed),
        "estimates": list(decision.estimates.values()),
        "excluded": list(decision.excluded),
        "features": {
            "tokens": decision.features.token_estimate,
            "complexity": decision.features.complexity_score,
            "domain": decision.features.domain,
            "schema": decision.features.schema,
        },
        "receipt": decision.receipt,
    }


@command
def explain(
    decision_id: Annotated[str, typer.Argument(help="A decision's id, or an answer's.")],
    as_json: AsJson = False,
) -> None:
    """Show a decision of the past as it was made: what was expected of each model.

    Example:

      conduit explain 0198f2a4-6c1e-7b7e-9a51-0d5b0f7c2a11
    """
    record, answer = asyncio.run(_stored(decision_id))
    if as_json:
        show_json(_record_fields(record, answer))
    else:
        _show_record(record, answer)


async def _stored(identity: str) -> tuple[DecisionRecord, ResponseRecord | None]:
    from conduit.core.errors import UnknownDecision

    settings = workplace.settings_here()
    async with workplace.opened_store(settings) as store:
        answer = await store.response(settings.router_name, identity)
        wanted = identity if answer is None else answer.decision_id
        record = await store.decision(settings.router_name, wanted)
    if record is None:
        raise UnknownDecision(
            identity, f"router {settings.router_name!r} never made it, or it was pruned"
        )
    return record, answer


def _show_record(record: DecisionRecord, answer: ResponseRecord | None) -> None:
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created_at))
    propensity = "" if record.propensity is None else f", with probability {record.propensity:.3f}"
    rows = [
        (
            f"{'*' if model == record.model else ' '} {model}",
            number(e.get("quality")),
            dollars(e.get("cost_usd")),
            number(e.get("latency_s")),
        )
        for model, e in sorted(
            record.estimates.items(), key=lambda item: -(item[1].get("quality") or 0.0)
        )
    ]
    show(
        f"{record.model} was chosen on {made}{propensity}",
        table("Expected then", ("model", "quality", "cost", "seconds"), rows),
    )
    if answer is not None:
        r = answer.response
        ended = f"failed ({answer.error})" if answer.error else "answered"
        show(f"{r.model} {ended}: {dollars(r.cost_usd)}, {number(r.latency_s)} s")
    if record.text is not None:
        show(f"Text: {record.text}")


def _record_fields(record: DecisionRecord, answer: ResponseRecord | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: getattr(record, name)
        for name in (
            "id", "router", "model", "created_at", "expires_at", "propensity", "input_tokens",
            "estimates", "schema", "text",
        )
    }  # fmt: skip
    if answer is not None:
        fields["answer"] = {
            "id": answer.id,
            "model": answer.response.model,
            "error": answer.error,
            "cost_usd": answer.response.cost_usd,
            "latency_s": answer.response.latency_s,
        }
    return fields


@command
def models(
    provider: Annotated[str | None, typer.Option(help="Only this provider's models.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The whole catalogue, not only models to start with.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the models that are known: keys found, prices, quality priors and their sources.

    Examples:

      conduit models

      conduit models --provider anthropic --all
    """
    import os

    from conduit.catalogue.models import (
        PROVIDER_KEYS,
        as_of,
        providers_with_keys,
        quality_scale,
        supported_models,
    )
    from conduit.core.errors import unknown_name

    workplace.settings_here()
    if provider is not None and provider not in PROVIDER_KEYS:
        wrong(unknown_name("provider", provider, tuple(PROVIDER_KEYS)))
    keys = providers_with_keys(os.environ)
    listed = [
        m
        for m in supported_models()
        if (everything or m.start) and (provider is None or m.provider == provider)
    ]
    if as_json:
        known = [_model_fields(m, keys) for m in listed]
        show_json({"as_of": as_of(), "quality_scale": quality_scale(), "models": known})
        return
    columns = ("model", "key ", "$ in/Mtok", "$ out/Mtok", "context", "quality", "prior from ")
    scale = quality_scale()
    show(
        table("", columns, [_model_row(m, keys) for m in listed]),
        f"Prices of {as_of()}. Quality: {scale.meaning}",
        f"Source of the ratings: {scale.source.title} <{scale.source.url}>",
        "Keys found: " + (", ".join(keys) or "none; `conduit doctor` says where to put one"),
    )


def _model_row(model: KnownModel, keys: tuple[str, ...]) -> tuple[str, ...]:
    price = model.price_on()
    rating = model.rating
    return (
        model.id,
        "yes" if model.provider in keys else "no",
        "unknown" if price is None else f"{price.input_usd_per_mtok:g}",
        "unknown" if price is None else f"{price.output_usd_per_mtok:g}",
        "unknown" if model.context_window is None else f"{model.context_window:,}",
        number(model.quality),
        "not rated" if rating is None else f"{rating.value} ± {rating.ci95} ({rating.votes:,})",
    )


def _model_fields(model: KnownModel, keys: tuple[str, ...]) -> dict[str, Any]:
    price = model.price_on()
    return {
        "id": model.id,
        "provider": model.provider,
        "key_found": model.provider in keys,
        "input_usd_per_mtok": None if price is None else price.input_usd_per_mtok,
        "output_usd_per_mtok": None if price is None else price.output_usd_per_mtok,
        "context_window": model.context_window,
        "quality": model.quality,
        "quality_source": model.quality_source,
        "rating": model.rating,
        "output_tokens": model.output_tokens,
        "latency_s": model.latency_s,
    }


@command
def stats(
    since: Annotated[str | None, typer.Option(help="Only the last 7d, 12h, 30m.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the database says of this router: share, quality, spend and speed per model.

    Examples:

      conduit stats

      DATABASE_URL=postgresql://app@db/conduit conduit stats --since 7d --json
    """
    start = 0.0 if since is None else time.time() - seconds(since)
    found, router = asyncio.run(_stats(start))
    if as_json:
        show_json({"router": router, **{f: getattr(found, f) for f in found.__slots__}})
        return
    rows = [
        (
            model,
            f"{m.decisions:,}",
            f"{m.decisions / found.decisions:.0%}" if found.decisions else "",
            f"{m.responses:,}",
            f"{m.errors:,}",
            f"{m.feedback:,}",
            number(m.mean_quality),
            number(m.mean_latency_s),
            dollars(m.cost_usd),
        )
        for model, m in sorted(found.models.items(), key=lambda item: -item[1].decisions)
    ]
    columns = (
        "model", "decisions", "share", "answers", "errors", "feedback", "quality", "seconds",
        "spent",
    )  # fmt: skip
    show(
        f"Router {router!r}: {found.decisions:,} decisions, {found.responses:,} answers, "
        f"{found.feedback:,} pieces of feedback, {dollars(found.cost_usd)} spent",
        table("", columns, rows),
    )


async def _stats(since: float) -> tuple[RouterStats, str]:
    settings = workplace.settings_here()
    async with workplace.opened_store(settings) as store:
        return await store.stats(settings.router_name, since=since), settings.router_name
