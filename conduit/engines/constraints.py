"""Which models may answer a query, and what gives way when none may."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from conduit.catalogue.models import PROVIDER_SPELLINGS, provider_of
from conduit.core.errors import NoEligibleModel
from conduit.core.models import Exclusion, ModelArm, QueryConstraints
from conduit.engines.learner import Expected

RELAX_BY = 1.2  # a limit gives way by 20 % a step
STEPS = 255  # 1.2²⁵⁵ is twenty orders of magnitude; a limit further off than that is dropped

Placed = tuple[int, ModelArm]  # a model and its place in what is expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Eligibility:
    """The candidates, who is not one and why, and which limits were relaxed to find any."""

    candidates: tuple[str, ...]
    excluded: tuple[Exclusion, ...] = ()
    relaxed: tuple[str, ...] = ()


def eligible(
    arms: Sequence[ModelArm],
    expected: Expected,
    constraints: QueryConstraints | None,
    *,
    input_tokens: float = 0.0,
    unavailable: Mapping[str, str] | None = None,
) -> Eligibility:
    """Return the models that keep the constraints, relaxed by 20 % a step where none does.

    A context window and `unavailable` (a broken provider) are never relaxed, unless nothing else
    is left: the window gives way first. The preferred provider gives way last.
    """
    away = {a.id: unavailable[a.id] for a in arms if a.id in unavailable} if unavailable else {}
    too_long = _too_long(arms, input_tokens)
    hard = away | too_long
    limits = constraints or QueryConstraints()
    reasons = hard | {
        a.id: r
        for k, a in enumerate(arms)
        if a.id not in hard and (r := _reason(a, k, expected, limits)) is not None
    }
    if len(reasons) < len(arms):
        return _eligibility(arms, reasons, ())
    if limits.strict:
        raise NoEligibleModel(reasons)
    usable, cut_off = _usable(arms, away, too_long, limits.preferred_provider)
    kept, steps = _relaxed(usable, expected, limits)
    left = {a.id: r for a in arms if a.id not in kept and (r := reasons.get(a.id)) is not None}
    return _eligibility(arms, left, cut_off + steps)


def _eligibility(
    arms: Sequence[ModelArm], reasons: Mapping[str, str], relaxed: tuple[str, ...]
) -> Eligibility:
    return Eligibility(
        candidates=tuple(a.id for a in arms if a.id not in reasons),
        excluded=tuple(Exclusion(model=m, reason=r) for m, r in reasons.items()),
        relaxed=relaxed,
    )


def _too_long(arms: Sequence[ModelArm], input_tokens: float) -> dict[str, str]:
    return {
        a.id: f"about {input_tokens:.0f} tokens exceed its window of {a.context_window}"
        for a in arms
        if a.context_window is not None and input_tokens > a.context_window
    }


def _usable(
    arms: Sequence[ModelArm],
    away: Mapping[str, str],
    too_long: Mapping[str, str],
    provider: str | None,
) -> tuple[Sequence[Placed], tuple[str, ...]]:
    """Return the models that may be asked at all, or would come nearest to it, and what gave way.

    How many tokens a text has is an estimate, so the widest window may hold it all the same.
    """
    every = list(enumerate(arms))
    there = [(k, a) for k, a in every if a.id not in away] or every
    fitting = [(k, a) for k, a in there if a.id not in too_long]
    if fitting:
        return fitting, ()
    own = [(k, a) for k, a in there if _is_of(a, provider)] or there
    widest = max(a.context_window or 0 for _, a in own)
    kept = [(k, a) for k, a in own if a.context_window == widest]
    return kept, (f"context_window {widest} → any",)


def _reason(arm: ModelArm, k: int, e: Expected, limits: QueryConstraints) -> str | None:
    """Return the first limit that a model breaks, or None."""
    if limits.preferred_provider is not None and not _is_of(arm, limits.preferred_provider):
        return f"not of provider {limits.preferred_provider!r}"
    if limits.max_cost is not None:
        if not _may_be_counted(arm, k, e, limits):
            return "its cost is unknown, and max_cost is set"
        if _counts(arm, k, e) and e.cost_usd[k] > limits.max_cost:
            return f"expected cost ${e.cost_usd[k]:.3g} is over max_cost ${limits.max_cost:.3g}"
    if limits.max_latency is not None and e.known[1][k] and e.latency_s[k] > limits.max_latency:
        expected = f"expected latency {e.latency_s[k]:.3g} s"
        return f"{expected} is over max_latency {limits.max_latency:.3g} s"
    quality = e.prediction.quality[k]
    if limits.min_quality is not None and quality < limits.min_quality:
        return f"expected quality {quality:.3f} is under min_quality {limits.min_quality:.3f}"
    return None


def _is_of(arm: ModelArm, provider: str | None) -> bool:
    """Return whether a model is of a provider, however its name is written."""
    own, wanted = provider_of(arm.id), (provider or "").casefold()
    return own is not None and own.casefold() == PROVIDER_SPELLINGS.get(wanted, wanted)


def _counts(arm: ModelArm, k: int, e: Expected) -> bool:
    """Return whether a model's cost is known: before its first call, a list price is enough."""
    return arm.priced or bool(e.known[0][k])


def _may_be_counted(arm: ModelArm, k: int, e: Expected, limits: QueryConstraints) -> bool:
    """Return whether a model may be one of those whose cost somebody wants limited."""
    return limits.max_cost is None or limits.allow_unknown_cost or _counts(arm, k, e)


def _relaxed(
    usable: Sequence[Placed], e: Expected, limits: QueryConstraints
) -> tuple[set[str], tuple[str, ...]]:
    """Return the models that the least relaxation lets in, and what was relaxed."""
    # Giving way in how much a model may cost lets in none of which nobody knows what it costs.
    usable = [(k, a) for k, a in usable if _may_be_counted(a, k, e, limits)] or usable
    own = [(k, a) for k, a in usable if _is_of(a, limits.preferred_provider)]
    anyones = replace(limits, preferred_provider=None)
    for pool, wanted in ((own, limits), (usable, anyones)):
        kept, loosened = _let_in(pool, e, wanted)
        if kept:
            return kept, _named(limits, loosened)
    kept = {a.id for _, a in own or usable}
    provider = limits.preferred_provider if own else None
    return kept, _named(limits, QueryConstraints(preferred_provider=provider))


def _let_in(
    pool: Sequence[Placed], e: Expected, limits: QueryConstraints
) -> tuple[set[str], QueryConstraints]:
    """Return whom the first step lets in that lets in anybody, and the limits at that step."""

    def kept(step: int) -> set[str]:
        loosened = _loosened(limits, step)
        return {a.id for k, a in pool if _reason(a, k, e, loosened) is None}

    # Who keeps a limit keeps every looser one, so the first such step can be searched for.
    step = bisect_left(range(STEPS), True, key=lambda step: bool(kept(step)))
    return kept(step), _loosened(limits, step)


def _loosened(limits: QueryConstraints, step: int) -> QueryConstraints:
    grown = RELAX_BY**step
    return replace(
        limits,
        max_cost=_grown(limits.max_cost, grown),
        max_latency=_grown(limits.max_latency, grown),
        min_quality=None if limits.min_quality is None else limits.min_quality / grown,
    )


def _grown(limit: float | None, times: float) -> float | None:
    """Return a limit so many times as high; None where no number is."""
    return None if limit is None or math.isinf(limit * times) else limit * times


def _named(before: QueryConstraints, after: QueryConstraints) -> tuple[str, ...]:
    """Return what was relaxed, with the new limit."""
    names = []
    for name in ("max_cost", "max_latency", "min_quality", "preferred_provider"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            names.append(f"{name} {old} → {'any' if new is None else format(new, '.4g')}")
    return tuple(names)
