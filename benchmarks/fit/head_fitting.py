"""From labelled prompts to the heads that read complexity and domain off a prompt.

Domain: the subject groups of the tables (`labels.py`), each prompt with and without its answer
options, and prompts of our own. Complexity: whether small models answered wrongly; the weights of
each form of question (open, few options, many) are drawn towards each other, not equal, since what
is hard to guess among ten options differs from what is hard to answer at all. Both heads see the
embedding, the signals and the words that at least five prompts have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from benchmarks.fit.labels import GROUPS, written_prompts
from benchmarks.fit.prompts import Prompts, load_all, share
from benchmarks.fit.static_embedder import DATA
from conduit.engines.embeddings.named import create_embedder
from conduit.engines.features import SurfaceSignals, clip_text, surface_signals
from conduit.engines.heads import DOMAINS, FORMS, Heads, form_of, head_inputs

Rows = NDArray[np.float32]

FILE = DATA / "heads.npz"
# Inverse strength of the ridge, with words and without: 2 to 15 and 3 to 30 give the same accuracy
# within half a point; complexity gains 0.001 to 0.006 of AUC by words, at 0.1 as at 0.3.
DOMAIN_C, DOMAIN_C_WITHOUT_WORDS = 5.0, 10.0
COMPLEXITY_C, COMPLEXITY_C_WITHOUT_WORDS = 0.3, 0.1
# What is fitted has one best answer; stopped at scikit-learn's 1e-4, weights were 16 % from it, and
# another machine's rounding moved them by 4 %. At 1e-7 they are within 0.3 % of those at 1e-6.
TOLERANCE, ITERATIONS = 1e-8, 50_000
LEAST_PROMPTS = 5  # that have a word, for it to be known
LONGEST_WORD = 24  # bytes
QUESTION_CHARS = 160  # letters and digits that tell one question from another
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
        """Return which of so many parts each row falls in, by its question.

        A stem falls where its prompt does, and one question of two tables in one part.
        """
        return share([_question(text) for text in self.texts], parts, "heads")


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


def _question(text: str) -> str:
    """Return what makes two prompts the same question: its first letters, without options."""
    return re.sub(r"[^a-z0-9]", "", (_stem(text) or text).lower())[:QUESTION_CHARS]


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
        return np.stack([head_inputs(signals.values, None) for signals in rows.signals])
    vectors = create_embedder(embedder).embed([clip_text(text) for text in rows.texts])
    return np.stack(
        [
            head_inputs(signals.values, row)
            for signals, row in zip(rows.signals, vectors, strict=True)
        ]
    )


# --- words -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lexicon:
    """The words that heads know, and how rare each is."""

    row: Mapping[bytes, int]
    rarity: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Corpus, least: int = LEAST_PROMPTS) -> Lexicon:
        """Return the words that enough prompts have; no label is looked at."""
        prompts = [each for each, stem in zip(rows.signals, rows.stems, strict=True) if not stem]
        counts = Counter(word for each in prompts for word in each.distinct)
        words = sorted(
            word for word, n in counts.items() if n >= least and len(word) <= LONGEST_WORD
        )
        found = np.array([counts[word] for word in words])
        rarity = np.log((1 + len(prompts)) / (1 + found))
        return cls({word: row for row, word in enumerate(words)}, rarity)

    @classmethod
    def empty(cls) -> Lexicon:
        """Return a lexicon that knows no word."""
        return cls({}, np.zeros(0))

    def occurrences(self, signals: Sequence[SurfaceSignals]) -> sparse.csr_matrix:
        """Return a one for each word of each text."""
        found: list[int] = []
        ends = [0]
        for each in signals:
            found += sorted(self.row[word] for word in each.distinct if word in self.row)
            ends.append(len(found))
        return sparse.csr_matrix(
            (np.ones(len(found)), np.array(found, np.int64), ends),
            shape=(len(signals), len(self.row)),
        )

    def rows(self, signals: Sequence[SurfaceSignals]) -> sparse.csr_matrix:
        """Return the rarity of each text's words, at unit length."""
        matrix = self.occurrences(signals).multiply(self.rarity).tocsr()
        norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        return (sparse.diags(1.0 / np.maximum(norm, 1e-9)) @ matrix).tocsr()


@dataclass(frozen=True)
class Fitted:
    """Heads, and the lexicon that their rows of words belong to."""

    heads: Heads
    lexicon: Lexicon

    def domains(self, rows: Corpus, seen: Rows) -> NDArray[np.int64]:
        """Return the domain of each row."""
        logits = seen @ self.heads.domain_weights.T + self.heads.domain_bias
        return np.asarray((logits + self._said(rows)[:, :-1]).argmax(axis=1))

    def errors(self, rows: Corpus, seen: Rows) -> NDArray[np.float64]:
        """Return the probability that small models get each row wrong."""
        weights = self.heads.complexity_weights[rows.forms]
        logits = (seen * weights).sum(axis=1) + self.heads.complexity_bias[rows.forms]
        logits = logits.astype(np.float64) + self._said(rows)[:, -1]
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))

    def _said(self, rows: Corpus) -> NDArray[np.float64]:
        total = np.asarray(self.lexicon.occurrences(rows.signals) @ self.heads.words)
        return total[:, :-1] / np.sqrt(np.maximum(total[:, -1:], 1e-9))


# --- heads -----------------------------------------------------------------------------------


def fit_heads(space: str, rows: Corpus, seen: Rows, mask: NDArray[np.bool_]) -> Fitted:
    """Return the heads of a space, fitted on the rows of a mask."""
    lexicon = Lexicon.of(rows.only(mask)) if space in WITH_WORDS else Lexicon.empty()
    words = lexicon.rows(rows.signals)
    domain, domain_bias, domain_words = fit_domain(rows, seen, words, mask)
    complexity, complexity_bias, complexity_words = fit_complexity(rows, seen, words, mask)
    said = np.concatenate((domain_words, complexity_words), axis=1) * lexicon.rarity[:, None]
    table = np.concatenate((said, lexicon.rarity[:, None] ** 2), axis=1)
    return Fitted(
        Heads(domain, domain_bias, complexity, complexity_bias, table.astype(np.float32)), lexicon
    )


def fit_domain(
    rows: Corpus, seen: Rows, words: sparse.csr_matrix, mask: NDArray[np.bool_]
) -> tuple[Rows, Rows, Rows]:
    """Return weights and biases of the domains, and the weights of words as columns."""
    known = mask & (rows.domains >= 0)
    strength = DOMAIN_C if words.shape[1] else DOMAIN_C_WITHOUT_WORDS
    model = LogisticRegression(C=strength, tol=TOLERANCE, max_iter=ITERATIONS)
    given = sparse.hstack((sparse.csr_matrix(seen[known]), words[known])).tocsr()
    model.fit(given, rows.domains[known], sample_weight=rows.weights[known])
    width = seen.shape[1]
    weights = np.zeros((len(DOMAINS), given.shape[1]), np.float32)
    bias = np.full(len(DOMAINS), -30.0, np.float32)  # a domain that was never seen
    weights[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weights[:, :width], bias, weights[:, width:].T


def fit_complexity(
    rows: Corpus, seen: Rows, words: sparse.csr_matrix, mask: NDArray[np.bool_]
) -> tuple[Rows, Rows, Rows]:
    """Return weights and bias of each form of question, and the words' as one column."""
    known = mask & np.isfinite(rows.errors)
    forms = _by_form(seen[known], rows.forms[known])
    given = sparse.hstack((sparse.csr_matrix(forms), words[known])).tocsr()
    wrong = rows.errors[known]
    labels = np.repeat((True, False), given.shape[0])
    counts = np.concatenate((wrong, 1.0 - wrong))
    kept = counts > 0.0
    if words.shape[1]:
        model = LogisticRegression(C=COMPLEXITY_C, tol=TOLERANCE, max_iter=ITERATIONS)
    else:
        model = LogisticRegression(C=COMPLEXITY_C_WITHOUT_WORDS, solver="newton-cholesky")
    model.fit(sparse.vstack((given, given)).tocsr()[kept], labels[kept], sample_weight=counts[kept])
    width, ours = seen.shape[1], forms.shape[1]
    shared, own = model.coef_[0, :width], model.coef_[0, width:ours].reshape(len(FORMS), width + 1)
    weights = (shared + own[:, :width]).astype(np.float32)
    bias = (model.intercept_[0] + FORM_GAIN * own[:, width]).astype(np.float32)
    return weights, bias, model.coef_[:, ours:].T.astype(np.float32)


def _by_form(seen: Rows, forms: NDArray[np.int64]) -> Rows:
    """Return the inputs once for all forms, then once per form with a column for its base rate."""
    based = np.concatenate((seen, np.full((len(seen), 1), FORM_GAIN, np.float32)), axis=1)
    return np.concatenate(
        (seen, *(based * (forms == form)[:, None] for form in range(len(FORMS)))), axis=1
    )


SPACES = ("surface", "static", "minilm")
WITH_WORDS = ("surface", "static")


def spaces(rows: Corpus, names: Sequence[str] = SPACES) -> Iterator[tuple[str, Corpus, Rows]]:
    """Yield each space that heads are shipped for: its name, its rows and their inputs.

    The transformer is slow, so it reads no stems; int8 weights give the same space as the
    sentence transformer's (cosine 0.999) in a third of the time.
    """
    for name in names:
        some = rows.only(~rows.stems) if name == "minilm" else rows
        yield name, some, inputs(some, EMBEDDERS[name])


EMBEDDERS = {"surface": None, "static": "static", "minilm": "onnx"}


def fit(root: Path, names: Sequence[str] = SPACES) -> dict[str, NDArray[Any]]:
    """Return the arrays of the file."""
    arrays: dict[str, NDArray[Any]] = {}
    for space, rows, seen in spaces(corpus(root), names):
        fitted = fit_heads(space, rows, seen, np.ones(len(seen), np.bool_))
        found = fitted.heads
        if fitted.lexicon.row:  # the same for every space
            arrays["words"] = np.array(list(fitted.lexicon.row), np.bytes_)
        arrays |= {
            f"{space}.domain.weights": found.domain_weights,
            f"{space}.domain.bias": found.domain_bias,
            f"{space}.complexity.weights": found.complexity_weights,
            f"{space}.complexity.bias": found.complexity_bias,
            f"{space}.words": found.words.astype(np.float16),
        }
    return arrays
