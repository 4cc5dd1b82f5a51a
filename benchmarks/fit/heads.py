"""Fit the heads that read complexity and domain off a prompt.

    python -m benchmarks.fit.heads              # make the file
    python -m benchmarks.fit.heads --check      # is the shipped file what this makes?
    python -m benchmarks.fit.heads --report     # fit on one half, judge on the other (markdown)

Domain: the subject groups of the tables (`labels.py`), each prompt with and without its answer
options, and prompts of our own. Complexity: whether small models answered wrongly; the weights of
each form of question (open, few options, many) are drawn towards each other, not equal, since what
is hard to guess among ten options differs from what is hard to answer at all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.fit.feature_tables import compared
from benchmarks.fit.labels import GROUPS, written_prompts
from benchmarks.fit.prompts import Prompts, arguments, load_all, share
from benchmarks.fit.static_embedder import DATA
from conduit.engines.embeddings.base import create_embedder
from conduit.engines.features import (
    DOMAINS,
    FORMS,
    Heads,
    SurfaceSignals,
    clip_text,
    form_of,
    head_inputs,
    surface_signals,
)

Rows = NDArray[np.float32]

FILE = DATA / "heads.npz"
DOMAIN_C = 10.0  # inverse strength of the ridge; 3 to 30 give the same accuracy within 0.3 points
COMPLEXITY_C = 0.1
STEM_WEIGHT = 0.5  # a prompt without its options counts half, beside itself with them
MINIMUM_STEM_BYTES = 20
FORM_GAIN = 3.0  # the base rate of a form is hardly shrunk

# The models of each table that an application would call small: at most about 50B parameters,
# or the weaker one of a pair.
SMALL_MODELS = {
    "llmrouter9": (
        "llama-3.1-8b-instruct",
        "gemma-2-9b-it",
        "qwen2.5-7b-instruct",
        "mistral-7b-instruct-v0.3",
    ),
    "mmlu_pro": (
        "Meta-Llama-3_1-8B-Instruct",
        "Mistral-7B-Instruct-v0.2",
        "Mixtral-8x7B-Instruct-v0.1",
        "Phi-3-mini-4k-instruct",
        "Qwen1.5-7B-Chat",
        "gemma-7b",
        "mathstral-7B",
    ),
    "paretobandit_k4": ("meta-llama/llama-3.1-8b-instruct",),
    "routellm_gsm8k": ("mixtral-8x7b-instruct-v0.1",),
    "routellm_mmlu": ("mixtral-8x7b-instruct-v0.1",),
}


@dataclass(frozen=True)
class Corpus:
    """Every prompt that heads are fitted on, as arrays of one length."""

    texts: tuple[str, ...]
    tables: NDArray[np.str_]
    ids: tuple[str, ...]
    groups: NDArray[np.str_]
    domains: NDArray[np.int64]  # -1: teaches nothing about domains
    errors: NDArray[np.float64]  # share of small models that were wrong; NaN: unknown
    stems: NDArray[np.bool_]  # the prompt without its options
    signals: tuple[SurfaceSignals, ...]

    @property
    def forms(self) -> NDArray[np.int64]:
        """The form of each question."""
        return np.array([form_of(signals) for signals in self.signals])

    @property
    def weights(self) -> NDArray[np.float64]:
        """How much each row counts for the domains."""
        return np.where(self.stems, STEM_WEIGHT, 1.0)

    def only(self, mask: NDArray[np.bool_]) -> Corpus:
        """Return the rows of a mask."""
        kept = np.flatnonzero(mask).tolist()
        return Corpus(
            texts=tuple(self.texts[row] for row in kept),
            tables=self.tables[mask],
            ids=tuple(self.ids[row] for row in kept),
            groups=self.groups[mask],
            domains=self.domains[mask],
            errors=self.errors[mask],
            stems=self.stems[mask],
            signals=tuple(self.signals[row] for row in kept),
        )

    def part(self, parts: int) -> NDArray[np.int64]:
        """Return which of so many parts each row falls in; a stem falls where its prompt does."""
        return share(self.ids, parts, "heads")


@dataclass(frozen=True)
class _Row:
    text: str
    table: str
    id: str
    group: str
    domain: int
    error: float
    is_stem: bool


def corpus(root: Path) -> Corpus:
    """Return the prompts of every table, their stems, and our own."""
    rows = [row for table in load_all(root) for row in _table_rows(table)]
    rows += [
        _Row(text, "own", text, domain, DOMAINS.index(domain), np.nan, False)
        for text, domain in written_prompts()
    ]
    return Corpus(
        texts=tuple(row.text for row in rows),
        tables=np.array([row.table for row in rows]),
        ids=tuple(row.id for row in rows),
        groups=np.array([row.group for row in rows]),
        domains=np.array([row.domain for row in rows]),
        errors=np.array([row.error for row in rows]),
        stems=np.array([row.is_stem for row in rows]),
        signals=tuple(surface_signals(row.text) for row in rows),
    )


def _table_rows(table: Prompts) -> Iterator[_Row]:
    """Yield each prompt, and its stem where it has options and a domain."""
    errors = 1.0 - np.mean([table.quality[model] for model in SMALL_MODELS[table.name]], axis=0)
    labels = GROUPS[table.name]
    for text, name, group, error in zip(
        table.texts, table.ids, table.groups, errors.tolist(), strict=True
    ):
        domain = DOMAINS.index(labels[group]) if group in labels else -1
        yield _Row(text, table.name, name, group, domain, error, False)
        stem = _stem(text)
        if stem and domain >= 0:
            yield _Row(stem, table.name, name, group, domain, np.nan, True)


def _stem(text: str) -> str:
    """Return a question without its answer options; nothing when there are none."""
    signals = surface_signals(text)
    length = round(float(np.expm1(signals.as_mapping()["stem_length"])))
    if not signals.options or length < MINIMUM_STEM_BYTES:
        return ""
    return clip_text(text).encode("utf-8", "replace")[:length].decode("utf-8", "ignore")


def inputs(rows: Corpus, embedder: str | None) -> Rows:
    """Return what the heads see of every row; without an embedder, its signals alone."""
    if embedder is None:
        return np.stack([head_inputs(signals, None) for signals in rows.signals])
    vectors = create_embedder(embedder).embed([clip_text(text) for text in rows.texts])
    return np.stack(
        [head_inputs(signals, row) for signals, row in zip(rows.signals, vectors, strict=True)]
    )


def fit_domain(rows: Corpus, seen: Rows, mask: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """Return the weights and biases of the domains."""
    known = mask & (rows.domains >= 0)
    model = LogisticRegression(C=DOMAIN_C, max_iter=500)
    model.fit(seen[known], rows.domains[known], sample_weight=rows.weights[known])
    weights = np.zeros((len(DOMAINS), seen.shape[1]), np.float32)
    bias = np.full(len(DOMAINS), -30.0, np.float32)  # a domain that was never seen
    weights[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weights, bias


def fit_complexity(rows: Corpus, seen: Rows, mask: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """Return the weights and the bias of each form of question."""
    known = mask & np.isfinite(rows.errors)
    wide = _by_form(seen[known], rows.forms[known])
    wrong = rows.errors[known]
    labels = np.repeat((True, False), len(wide))
    counts = np.concatenate((wrong, 1.0 - wrong))
    kept = counts > 0.0
    model = LogisticRegression(C=COMPLEXITY_C, solver="newton-cholesky")
    model.fit(np.concatenate((wide, wide))[kept], labels[kept], sample_weight=counts[kept])
    width = seen.shape[1]
    shared, own = model.coef_[0, :width], model.coef_[0, width:].reshape(len(FORMS), width + 1)
    weights = (shared + own[:, :width]).astype(np.float32)
    bias = (model.intercept_[0] + FORM_GAIN * own[:, width]).astype(np.float32)
    return weights, bias


def _by_form(seen: Rows, forms: NDArray[np.int64]) -> Rows:
    """Return the inputs once for all forms, then once per form with a column for its base rate."""
    based = np.concatenate((seen, np.full((len(seen), 1), FORM_GAIN, np.float32)), axis=1)
    return np.concatenate(
        (seen, *(based * (forms == form)[:, None] for form in range(len(FORMS)))), axis=1
    )


def fit_heads(rows: Corpus, seen: Rows, mask: NDArray[np.bool_]) -> Heads:
    """Return the heads fitted on the rows of a mask."""
    return Heads(*fit_domain(rows, seen, mask), *fit_complexity(rows, seen, mask))


SPACES = ("surface", "static", "minilm")


def spaces(rows: Corpus, names: Sequence[str] = SPACES) -> Iterator[tuple[str, Corpus, Rows]]:
    """Yield each space that heads are shipped for: its name, its rows and their inputs.

    The transformer is slow, so it reads no stems; int8 weights give the same space as the
    sentence transformer's (cosine 0.999) in a third of the time.
    """
    for name in names:
        some = rows.only(~rows.stems) if name == "minilm" else rows
        yield name, some, inputs(some, EMBEDDERS[name])


EMBEDDERS = {"surface": None, "static": "static", "minilm": "onnx"}


def fit(root: Path, names: Sequence[str] = SPACES) -> dict[str, Rows]:
    """Return the arrays of the file."""
    arrays: dict[str, Rows] = {}
    for space, rows, seen in spaces(corpus(root), names):
        fitted = fit_heads(rows, seen, np.ones(len(seen), np.bool_))
        arrays |= {
            f"{space}.domain.weights": fitted.domain_weights,
            f"{space}.domain.bias": fitted.domain_bias,
            f"{space}.complexity.weights": fitted.complexity_weights,
            f"{space}.complexity.bias": fitted.complexity_bias,
        }
    return arrays


def main(argv: Sequence[str] | None = None) -> int:
    """Make the file, compare it, or report how well heads do on rows they did not see."""
    parser = arguments("Fit the heads for complexity and domain.")
    parser.add_argument("--report", action="store_true", help="print how well they do")
    parser.add_argument(
        "--fast", action="store_true", help="leave the transformer out of report and check"
    )
    options = parser.parse_args(argv)
    names = SPACES[:2] if options.fast else SPACES
    if options.report:
        from benchmarks.fit.heads_report import report

        print(report(corpus(options.data), names=names))
        return 0
    arrays = fit(options.data, names)
    if options.check:
        return compared(arrays, FILE)
    if options.fast:
        parser.error("--fast goes with --report or --check: the file holds all spaces")
    np.savez(FILE, **arrays)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main())
