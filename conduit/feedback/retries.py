"""Tells a second try from a new question: the retry signal.

The same user, within five minutes, says the same again: word by word, with the typo mended, put
otherwise, more precisely, in another language, or with a complaint. What is not a retry: the next
question on the same topic, and the same template with another slot. What tells them apart most is
that people who ask about something else keep the frame and swap a word, and people who ask again
swap both.

A trace holds no text: hashes of words, a few flags, and the embedding where there is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from conduit.core.errors import InvalidInput, finite
from conduit.core.models import Vector
from conduit.feedback.lexicon import Cue
from conduit.feedback.likeness import FEATURE_NAMES, likeness, probability, score_abroad
from conduit.feedback.wording import Wording, text_digest, wording_of

WINDOW_S: Final = 300.0

_COMPARED: Final = 8  # earlier queries, the latest first
_COMPLAINT_SCORE: Final = 0.95

RetryKind = Literal["exact", "rephrased", "complaint", "translated"]


@dataclass(frozen=True, slots=True, eq=False)
class QueryTrace:
    """What is remembered of one query for some minutes; never its text."""

    decision_id: str
    user_id: str | None
    at_s: float
    text_hash: bytes
    wording: Wording
    embedding: Vector | None = None  # of unit length
    model: str = ""  # that answered

    def __post_init__(self) -> None:
        """Refuse a time that is none."""
        finite(self.at_s, "at_s")


def trace_of(
    text: str,
    *,
    decision_id: str,
    user_id: str | None,
    at_s: float,
    embedding: Vector | None = None,
    model: str = "",
) -> QueryTrace:
    """Return the trace of a query; without a user, who cannot retry, its text is not read."""
    wording = Wording() if user_id is None else wording_of(text)
    return QueryTrace(decision_id, user_id, at_s, text_digest(text), wording, embedding, model)


@dataclass(frozen=True, slots=True)
class RetrySignal:
    """The query repeats an earlier one: bad news about the answer of `decision_id`."""

    decision_id: str  # of the earlier query, whose answer did not do
    kind: RetryKind
    score: float  # how surely this is a retry, 0 to 1
    cosine: float | None
    gap_s: float
    model: str = ""  # whose answer did not do
    quality: float = 0.0

    @property
    def reliability_key(self) -> str:
        """Name the kind of evidence: a complaint says more than a repetition."""
        return "complaint" if self.kind == "complaint" else "retry"


# One weight for each of FEATURE_NAMES, fitted on half of the pairs in tests/feedback/data by
# benchmarks/fit/retries.py, which prints them and what they reach on the other half.
_STATIC: Final = (
    0.7, 1.22, 0.34, 0.27, -0.22, 0.31, -0.02, 0.01, -0.27, -0.29, -1.2, -1.22, 0.59, 0.74,
    0.15, -0.21, -0.77, -0.78, -0.28, 0.27, -0.25, -0.47, -0.07, 0.09, -0.64, -0.75, 0.4,
    -0.54, -0.3, 0.36, 0.24, -1.08, 1.14, -1.35, -0.33, 0.4, -0.02, -0.38,
)  # fmt: skip
_MINILM: Final = (
    0.86, 0.98, 0.75, 0.35, -0.06, 0.3, -0.17, 0.03, -0.35, -0.26, -1.21, -1.11, 1.04, 0.49,
    -0.02, -0.13, -0.9, -0.49, -0.29, 0.29, -0.21, -0.37, -0.05, 0.48, -0.47, -0.6, 0.3,
    -0.44, -0.23, 0.49, 0.5, -0.17, 1.07, -1.39, -0.18, 0.4, -0.08, -0.35,
)  # fmt: skip
BLIND_WEIGHTS: Final = (  # where no cosine is known
    0.06, 1.61, -0.24, 0.29, -0.31, 0.44, 0.57, -0.19, -0.13, -0.34, -1.13, -1.2, 0.0, 1.33,
    0.14, -0.18, -0.89, -0.77, -0.25, 0.12, -0.25, -0.58, -0.12, -0.02, -0.62, -0.75, 0.45,
    -0.57, -0.41, 0.28, 0.0, 0.0, 1.17, -1.19, -0.38, 0.32, 0.04, -0.35,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """When two queries are the same request, for one embedder.

    `cosine_mean` and `cosine_sd` are the embedder's over pairs of related queries; `weights` go
    with `FEATURE_NAMES`, and grow towards the cosine with what it is worth.
    """

    cosine_mean: float = 0.78
    cosine_sd: float = 0.12
    weights: tuple[float, ...] = _STATIC
    threshold: float = 0.5  # precision and recall are alike on the half that was fitted on

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be a mean, a deviation, weights and a probability."""
        finite(self.cosine_mean, "cosine_mean", low=-1.0, high=1.0)
        finite(self.threshold, "threshold", low=0.0, high=1.0)
        if finite(self.cosine_sd, "cosine_sd", low=0.0) == 0.0:
            raise InvalidInput("cosine_sd must be above 0", field="cosine_sd", value=0.0)
        if len(self.weights) != len(FEATURE_NAMES):
            expected = f"{len(FEATURE_NAMES)} numbers"
            raise InvalidInput(f"weights must be {expected}", field="weights", expected=expected)
        for weight in self.weights:
            finite(weight, "weights")

    def score(self, before: Wording, after: Wording, cosine: float | None) -> float:
        """Return how surely two queries are one request, 0 to 1."""
        if cosine is None:
            return probability(likeness(before, after, None), BLIND_WEIGHTS)
        standard = (cosine - self.cosine_mean) / self.cosine_sd
        return probability(likeness(before, after, standard), self.weights)


DEFAULT_RULE: Final = RetryRule()
_MINILM_RULE: Final = RetryRule(cosine_mean=0.8, cosine_sd=0.15, weights=_MINILM)
# By the embedder's id, spelled here since feedback knows no embedder.
RETRY_RULES: Final[Mapping[str, RetryRule]] = {
    "static-minilm-256/1": DEFAULT_RULE,
    "sentence-transformers/all-MiniLM-L6-v2": _MINILM_RULE,
    "onnx/all-MiniLM-L6-v2-int8": _MINILM_RULE,
}


def retry_signal(
    current: QueryTrace,
    earlier: Sequence[QueryTrace],
    *,
    window_s: float = WINDOW_S,
    threshold: float | None = None,
    rule: RetryRule = DEFAULT_RULE,
) -> RetrySignal | None:
    """Return the retry that `current` is, against the likeliest of the earlier queries, or None."""
    limit = rule.threshold if threshold is None else finite(threshold, "threshold", low=0, high=1)
    if current.user_id is None or _only_continues(current):
        return None
    recent = [
        trace
        for trace in earlier
        if trace.user_id == current.user_id
        and trace.decision_id != current.decision_id
        and 0.0 <= current.at_s - trace.at_s <= window_s
    ]
    recent = sorted(recent, key=lambda trace: trace.at_s, reverse=True)[:_COMPARED]
    found = [_compared(current, trace, rule) for trace in recent]
    best = max(found, key=lambda signal: signal.score, default=None)
    if best is not None and best.score >= limit:
        return best
    return _complaint(current, recent)


def _only_continues(trace: QueryTrace) -> bool:
    return bool(trace.wording.cues & Cue.COMMAND)


def _complaint(current: QueryTrace, recent: Sequence[QueryTrace]) -> RetrySignal | None:
    """Return the complaint about the answer just given, if `current` is one."""
    cues = Cue(current.wording.cues)
    if not recent or Cue.COMPLAINT not in cues or Cue.APPROVAL in cues:
        return None
    return RetrySignal(
        recent[0].decision_id,
        "complaint",
        _COMPLAINT_SCORE,
        cosine_of(current, recent[0]),
        current.at_s - recent[0].at_s,
        recent[0].model,
    )


def cosine_of(a: QueryTrace, b: QueryTrace) -> float | None:
    """Return the cosine of two embeddings, None where one is missing or of another length."""
    if a.embedding is None or b.embedding is None or a.embedding.shape != b.embedding.shape:
        return None
    return float(a.embedding @ b.embedding)


def _compared(current: QueryTrace, trace: QueryTrace, rule: RetryRule) -> RetrySignal:
    cosine, gap_s = cosine_of(current, trace), current.at_s - trace.at_s
    cues = Cue(current.wording.cues)
    if current.text_hash == trace.text_hash:
        return RetrySignal(trace.decision_id, "exact", 1.0, cosine, gap_s, trace.model)
    kind: RetryKind = "complaint" if Cue.COMPLAINT in cues else "rephrased"
    if current.wording.language != trace.wording.language:
        score = score_abroad(trace.wording, current.wording)
        if score > 0.0:
            return RetrySignal(trace.decision_id, "translated", score, cosine, gap_s, trace.model)
    score = rule.score(trace.wording, current.wording, cosine)
    return RetrySignal(trace.decision_id, kind, score, cosine, gap_s, trace.model)
