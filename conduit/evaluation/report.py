"""What a calibration showed: models side by side, and what routing among them is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conduit.core.models import ModelArm, Preferences
from conduit.evaluation.replay import ReplayTable, replay, static_mix

Floats = NDArray[np.float64]

Z95 = 1.96
FOLDS = 5
LEAST_PROMPTS = 20  # below, no estimate of routing is worth printing
WORTH_USD_SHARE = 0.005  # of utility: more prompts pay when they promise at least this much
NEEDED_SHARE = 0.02  # of the routed queries, for a model to be needed


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One model's answers: means with 95 % half-widths; None where nothing is known."""

    model: str
    answers: int
    quality: float | None
    quality_95: float | None
    cost_usd: float | None
    cost_95: float | None
    latency_s: float | None
    latency_95: float | None
    on_frontier: bool  # no other model is both better and cheaper
    routed_share: float | None  # of held-out prompts, once calibrated


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """What every model's answers to the same prompts say."""

    prompts: int
    complete: int  # answered by every model
    spent_usd: float  # for these answers, in earlier runs that were interrupted too
    skipped: int  # not asked, not graded, or failed for a reason that is not the model's
    lost: int  # calls on their way when a run was killed: paid for, with nothing to show
    stopped_by_budget: bool
    unpriced: tuple[str, ...]  # models that a limit in dollars kept from being asked
    models: tuple[ModelReport, ...]
    not_needed: tuple[str, ...]
    best_single: str | None
    best_single_utility: float | None
    routed_utility: float | None  # of held-out prompts, by cross-validation
    routed_utility_95: float | None
    routed_quality: float | None
    routed_cost_usd: float | None
    static_mix_quality: float | None  # of the best blind mix at the routed cost
    saved_usd_per_query: float | None  # beside the best single model
    saved_beside_mix_usd: float | None  # per query; None where no blind mix is as good
    more_prompts_pay: bool | None  # would as many again still gain something
    expected_gain: float | None  # in utility, of as many again

    def summary(self) -> str:
        """Return the report as people read it."""
        head = f"{'model':<40} {'quality':>15} {'$ per query':>12} {'seconds':>8} {'routed':>7}"
        lines = [f"{self.complete} of {self.prompts} prompts answered by every model, "
                 f"${self.spent_usd:.4f} spent", "", head]  # fmt: skip
        for m in self.models:
            quality = "unknown" if m.quality is None else f"{m.quality:.3f} ± {m.quality_95:.3f}"
            cost = "unknown" if m.cost_usd is None else f"{m.cost_usd:.2e}"
            seconds = "unknown" if m.latency_s is None else f"{m.latency_s:.2f}"
            share = "" if m.routed_share is None else f"{m.routed_share:.0%}"
            lines.append(f"{m.model:<40} {quality:>15} {cost:>12} {seconds:>8} {share:>7}")
        lines.append(
            "best for their price: " + ", ".join(m.model for m in self.models if m.on_frontier)
        )
        if self.routed_utility is not None:
            lines += [
                "",
                f"routed (held out): utility {self.routed_utility:.4f} ± "
                f"{self.routed_utility_95:.4f}, beside {self.best_single_utility:.4f} of the best "
                f"single model ({self.best_single})",
                f"quality {self.routed_quality:.4f}, beside {self.static_mix_quality:.4f} of the "
                "best static mix at the same cost",
                f"dollars per query: {self.routed_cost_usd:.2e}, {self.saved_usd_per_query:+.2e} "
                "saved beside the best single model"
                + (
                    ", and no static mix is as good"
                    if self.saved_beside_mix_usd is None
                    else f", {self.saved_beside_mix_usd:+.2e} beside the cheapest mix as good"
                ),
            ]
        if self.not_needed:
            lines.append("nobody needs: " + ", ".join(self.not_needed))
        if self.more_prompts_pay is not None:
            word = "would probably pay" if self.more_prompts_pay else "would hardly pay"
            lines.append(f"as many prompts again {word} ({self.expected_gain:+.4f} utility)")
        if self.lost:
            lines.append(f"{self.lost} answers were lost when a run was killed; not asked again")
        if self.stopped_by_budget:
            lines.append("stopped before the limit could be passed")
        if self.unpriced:
            lines.append("not asked, as a limit needs a price: " + ", ".join(self.unpriced))
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Routed:
    utility: Floats
    quality: float
    cost_usd: float
    share: Floats


def report_of(
    arms: Sequence[ModelArm],
    *,
    quality: Floats,
    cost_usd: Floats,
    latency_s: Floats,
    complete: Sequence[int],
    vectors: NDArray[np.float32],
    preferences: Preferences,
    spent_usd: float,
    skipped: int,
    lost: int = 0,
    stopped_by_budget: bool,
    unpriced: Sequence[str] = (),
) -> CalibrationReport:
    """Return the report of (prompts, models) outcomes, NaN where nothing is known."""
    weight = preferences.cost / preferences.quality
    q, c = quality[complete], np.nan_to_num(cost_usd[complete])
    routed = half = None
    if len(complete) >= LEAST_PROMPTS and len(arms) > 1:
        routed = _cross_validated(arms, q, c, vectors, weight, share=1.0)
        half = _cross_validated(arms, q, c, vectors, weight, share=0.5)
    scale = float(c.mean(axis=0).max()) if len(complete) else 0.0
    single = (q - (weight * c / scale if scale else 0.0)).mean(axis=0) if len(complete) else None
    best = None if single is None else int(single.argmax())
    rows = tuple(_model(k, arm, quality, cost_usd, latency_s, routed) for k, arm in enumerate(arms))
    # The error of learning falls about as 1/n: what the second half brought, half of it again.
    gain = None
    if routed is not None and half is not None:
        gain = float((routed.utility.mean() - half.utility.mean()) / 2)
    mix = None
    if routed is not None:
        mix = static_mix([a.id for a in arms], q.mean(0), c.mean(0), routed.cost_usd)
    return CalibrationReport(
        prompts=len(quality),
        complete=len(complete),
        spent_usd=spent_usd,
        skipped=skipped,
        lost=lost,
        stopped_by_budget=stopped_by_budget,
        unpriced=tuple(unpriced),
        models=rows,
        not_needed=tuple(
            r.model for r in rows if r.routed_share is not None and r.routed_share < NEEDED_SHARE
        ),
        best_single=None if best is None else arms[best].id,
        best_single_utility=None if single is None or best is None else float(single[best]),
        routed_utility=None if routed is None else float(routed.utility.mean()),
        routed_utility_95=None if routed is None else _half_width(routed.utility),
        routed_quality=None if routed is None else routed.quality,
        routed_cost_usd=None if routed is None else routed.cost_usd,
        static_mix_quality=None if mix is None else mix.quality,
        saved_usd_per_query=(
            None if routed is None or best is None else float(c[:, best].mean() - routed.cost_usd)
        ),
        saved_beside_mix_usd=None if routed is None else _saved_beside_mix(arms, q, c, routed),
        more_prompts_pay=None if gain is None else gain > WORTH_USD_SHARE,
        expected_gain=gain,
    )


def _saved_beside_mix(
    arms: Sequence[ModelArm], quality: Floats, cost_usd: Floats, routed: _Routed
) -> float | None:
    """Return what the cheapest blind mix of the same quality costs more, or None without one."""
    ids, q, c = [a.id for a in arms], quality.mean(0), cost_usd.mean(0)
    low, high = float(c.min()), float(c.max())
    if static_mix(ids, q, c, high).quality < routed.quality:
        return None
    for _ in range(40):  # a mix is the better, the more it may cost
        middle = (low + high) / 2
        enough = static_mix(ids, q, c, middle).quality >= routed.quality
        low, high = (low, middle) if enough else (middle, high)
    return high - routed.cost_usd


def _cross_validated(
    arms: Sequence[ModelArm],
    quality: Floats,
    cost_usd: Floats,
    vectors: NDArray[np.float32],
    cost_weight: float,
    *,
    share: float,
) -> _Routed:
    """Return what a router calibrated on the other folds does on each fold."""
    fold = np.arange(len(quality)) % FOLDS
    utility, qualities, costs = [], [], []
    counts = np.zeros(len(arms))
    for held in range(FOLDS):
        train, test = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
        train = train[: max(2, int(share * train.size))]
        rows = np.concatenate([train, test])
        result = replay(
            ReplayTable(
                models=arms, quality=quality[rows], cost_usd=cost_usd[rows], features=vectors[rows]
            ),
            cost_weight=cost_weight,
            calibration=train.size,
            shuffle=False,
            orders=1,
            floor=0.0,
        )
        utility.append(result.utility[0])
        qualities.append(quality[test, result.chosen[0]])
        costs.append(cost_usd[test, result.chosen[0]])
        counts += np.bincount(result.chosen[0], minlength=len(arms))
    return _Routed(
        np.concatenate(utility),
        float(np.concatenate(qualities).mean()),
        float(np.concatenate(costs).mean()),
        counts / counts.sum(),
    )


def _model(
    k: int,
    arm: ModelArm,
    quality: Floats,
    cost_usd: Floats,
    latency_s: Floats,
    routed: _Routed | None,
) -> ModelReport:
    mean_q, mean_c = _means(quality), _means(cost_usd)
    (q, q95), (c, c95), (t, t95) = (_stats(m[:, k]) for m in (quality, cost_usd, latency_s))
    beaten = any(
        mean_q[j] >= mean_q[k]
        and mean_c[j] <= mean_c[k]
        and (mean_q[j], -mean_c[j]) != (mean_q[k], -mean_c[k])
        for j in range(quality.shape[1])
        if j != k
    )
    return ModelReport(
        model=arm.id,
        answers=int((~np.isnan(quality[:, k])).sum()),
        quality=q,
        quality_95=q95,
        cost_usd=c,
        cost_95=c95,
        latency_s=t,
        latency_95=t95,
        on_frontier=q is not None and not beaten,
        routed_share=None if routed is None else float(routed.share[k]),
    )


def _means(grid: Floats) -> Floats:
    known = ~np.isnan(grid)
    return np.asarray(np.nan_to_num(grid).sum(0) / np.maximum(known.sum(0), 1))


def _stats(values: Floats) -> tuple[float | None, float | None]:
    known = values[~np.isnan(values)]
    if not known.size:
        return None, None
    return float(known.mean()), _half_width(known)


def _half_width(values: Floats) -> float:
    if values.size < 2:
        return float("inf")
    return float(Z95 * values.std(ddof=1) / np.sqrt(values.size))


__all__ = ["CalibrationReport", "ModelReport", "report_of"]
