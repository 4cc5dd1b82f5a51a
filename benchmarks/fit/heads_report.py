"""How well the heads do on rows they did not see: accuracy, confusion, AUC, calibration.

Rows fall into halves by the hash of their question, so that one question of two tables is on one
side. Everything here is fitted on one half and judged on the other; the heads that ship are fitted
on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.fit.head_fitting import Corpus, Fitted, Rows, fit_heads, spaces
from conduit.engines.heads import DOMAINS

SUBJECT_TABLES = ("routellm_mmlu", "mmlu_pro")
GENERAL = DOMAINS.index("general")
RESAMPLES = 1000
BINS = 10

Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]


def report(rows: Corpus, *, names: Sequence[str]) -> str:
    """Return the report as markdown."""
    lines: list[str] = []
    for name, some, seen in spaces(rows, names):
        judged = some.part(2) == 1
        fitted = fit_heads(name, some, seen, ~judged)
        lines += [f"### Inputs: {TITLES[name]}", ""]
        lines += domain_lines(name, some, seen, fitted, judged)
        if name == "static":
            lines += confusion_lines(some, fitted.domains(some, seen), judged)
        lines += complexity_lines(some, fitted.errors(some, seen), judged)
        if name == "static":
            lines += reliability_lines(some, fitted.errors(some, seen), judged)
    return "\n".join(lines)


TITLES = {
    "surface": "the surface signals and words (any other embedder)",
    "static": "the default embedder, the signals and words",
    "minilm": "all-MiniLM-L6-v2 and the signals",
}


# --- domain ----------------------------------------------------------------------------------


def domain_lines(
    space: str, rows: Corpus, seen: Rows, fitted: Fitted, judged: Mask
) -> Iterator[str]:
    """Yield accuracy over the subject groups, and what crosses from one table to the other."""
    right = fitted.domains(rows, seen) == rows.domains
    whole = judged & ~rows.stems & (rows.domains >= 0)
    subjects = whole & np.isin(rows.tables, SUBJECT_TABLES)
    yield from ("| domain accuracy on | prompts | accuracy | 95 % interval |", "|---|---|---|---|")
    yield accuracy_line("both MMLU tables", right[subjects])
    yield accuracy_line("... without `general`", right[subjects & (rows.domains != GENERAL)])
    for table in SUBJECT_TABLES:
        yield accuracy_line(table, right[subjects & (rows.tables == table)])
    stems = judged & rows.stems & np.isin(rows.tables, SUBJECT_TABLES)
    if stems.any():
        yield accuracy_line("MMLU questions without their options", right[stems])
    yield accuracy_line("the other tables", right[whole & ~np.isin(rows.tables, SUBJECT_TABLES)])
    yield accuracy_line("prompts of our own", right[judged & (rows.tables == "own")])
    for known, other in (SUBJECT_TABLES, SUBJECT_TABLES[::-1]):
        crossed = fit_heads(space, rows, seen, (rows.tables == known) & ~judged)
        shared = np.unique(rows.domains[(rows.tables == known) & (rows.domains >= 0)])
        mask = judged & (rows.tables == other) & ~rows.stems & np.isin(rows.domains, shared)
        hits = crossed.domains(rows, seen) == rows.domains
        yield accuracy_line(f"{other}, fitted on {known} alone", hits[mask])
    yield ""


def accuracy_line(name: str, right: Mask) -> str:
    """Return a row with Wilson's interval."""
    n, share = len(right), float(right.mean())
    z = 1.96
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return f"| {name} | {n:,} | {share:.3f} | {centre - half:.3f} to {centre + half:.3f} |"


def confusion_lines(rows: Corpus, guess: NDArray[np.int64], judged: Mask) -> Iterator[str]:
    """Yield how often each domain of the subject groups was taken for each other one."""
    mask = judged & ~rows.stems & (rows.domains >= 0) & np.isin(rows.tables, SUBJECT_TABLES)
    yield from ("Confusion on the subject groups (rows: truth; columns: answer):", "")
    yield "| | " + " | ".join(DOMAINS) + " | right |"
    yield "|---" * (len(DOMAINS) + 2) + "|"
    for truth, name in enumerate(DOMAINS):
        answers = guess[mask & (rows.domains == truth)]
        if len(answers):
            counts = np.bincount(answers, minlength=len(DOMAINS))
            cells = " | ".join(str(count) for count in counts.tolist())
            yield f"| {name} | {cells} | {counts[truth] / len(answers):.2f} |"
    yield ""


# --- complexity ------------------------------------------------------------------------------


def complexity_lines(rows: Corpus, chance: Numbers, judged: Mask) -> Iterator[str]:
    """Yield the AUC for "small models are wrong" per table, beside knowing the group."""
    yield "| AUC for small models being wrong | prompts | AUC | 95 % interval | by group alone |"
    yield "|---|---|---|---|---|"
    known = np.isfinite(rows.errors)
    by_group = group_means(rows, known & ~judged)
    for table in dict.fromkeys(rows.tables[known].tolist()):
        mask = known & judged & (rows.tables == table)
        wrong = rows.errors[mask] > 0.5
        low, high = auc_interval(wrong, chance[mask])
        group = roc_auc_score(wrong, by_group[mask])
        value = roc_auc_score(wrong, chance[mask])
        cells = f"{value:.3f} | {low:.3f} to {high:.3f} | {group:.3f}"
        yield f"| {table} | {int(mask.sum()):,} | {cells} |"
    yield ""


def group_means(rows: Corpus, mask: Mask) -> Numbers:
    """Return the mean error of each row's group on the rows of a mask, shrunk by five rows."""
    result = np.full(len(rows.errors), rows.errors[mask].mean())
    for table, group in sorted(set(zip(rows.tables.tolist(), rows.groups.tolist(), strict=True))):
        here = (rows.tables == table) & (rows.groups == group)
        overall = rows.errors[mask & (rows.tables == table)]
        if len(overall):
            found = rows.errors[mask & here]
            result[here] = (found.sum() + 5 * overall.mean()) / (len(found) + 5)
    return result


def auc_interval(wrong: Mask, chance: Numbers) -> tuple[float, float]:
    """Return the middle 95 % of the AUC under resampling."""
    generator = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(len(wrong), size=len(wrong))
        values.append(roc_auc_score(wrong[drawn], chance[drawn]))
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    return low, high


def reliability_lines(rows: Corpus, chance: Numbers, judged: Mask) -> Iterator[str]:
    """Yield predicted and observed error in ten equal parts of the predictions."""
    known = judged & np.isfinite(rows.errors)
    yield from ("Calibration over all tables, in tenths of the predictions:", "")
    yield "| predicted | observed | prompts |"
    yield "|---|---|---|"
    order = np.flatnonzero(known)[np.argsort(chance[known], kind="stable")]
    gaps = []
    for part in np.array_split(order, BINS):
        predicted, observed = chance[part].mean(), rows.errors[part].mean()
        gaps.append(abs(predicted - observed) * len(part) / len(order))
        yield f"| {predicted:.3f} | {observed:.3f} | {len(part):,} |"
    yield from ("", f"Expected calibration error: {sum(gaps):.3f}. Mean error by table:", "")
    yield from table_means(rows, chance, known)
    yield ""


def table_means(rows: Corpus, chance: Numbers, known: Mask) -> Iterable[str]:
    """Yield predicted and observed error of each table."""
    yield from ("| table | predicted | observed |", "|---|---|---|")
    for table in dict.fromkeys(rows.tables[known].tolist()):
        here = known & (rows.tables == table)
        yield f"| {table} | {chance[here].mean():.3f} | {rows.errors[here].mean():.3f} |"
