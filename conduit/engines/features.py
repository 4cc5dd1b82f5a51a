"""Text becomes numbers: surface signals, and the vector that the learner sees.

Layout of the vector (`VECTOR_DIM` numbers): a bias; the principal components of the embedding,
half-whitened, with mean squared norm 1; the surface signals as 0.2 x z-score, clipped at z = 3;
and the task columns, all zero without a task. Whatever changes the meaning of one of them changes
`LAYOUT`, hence `schema_id`, so that old and new vectors never meet in one model.

Nothing here looks at a clock, a setting or the network. The fitted numbers lie in one data file of
the package, which is read once, when the first table is asked for; `benchmarks/fit/` makes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from hashlib import blake2b
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import InvalidInput

Floats = NDArray[np.float32]

LAYOUT = "conduit-features/1"
CLIP_CHARS = 4_000  # the first and the last half of it stand for a longer text

SURFACE_NAMES: tuple[str, ...] = (
    "length",
    "stem_length",
    "options",
    "digit_share",
    "operators",
    "code",
    "newlines",
    "asks_fact",
    "asks_reason",
    "asks_quantity",
    "question_mark",
    "bullets",
    "negation",
    "imperative",
    "format_asked",
    "persons",
    "diversity",
    "uppercase",
    "non_ascii",
    "word_length",
)
COMPONENTS = 8
TASK_COLUMNS = 8
SURFACE_START = 1 + COMPONENTS
TASK_START = SURFACE_START + len(SURFACE_NAMES)
VECTOR_DIM = TASK_START + TASK_COLUMNS

SURFACE_GAIN = 0.2  # 20 signals then weigh 0.8 beside the embedding's 1.0
SURFACE_CLIP = 3.0  # in standard deviations


# --- surface signals -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceSignals:
    """What can be read off a text without knowing what it means."""

    values: Floats  # one number per name of SURFACE_NAMES, before scaling
    token_estimate: int  # of the whole text, also where it was clipped
    words: int
    options: int  # of a multiple-choice question; 0 when there are none
    turns: int  # lines that a speaker opens, as in "User: ..."
    wants_json: bool
    wants_list: bool
    script: str  # "latin", "cyrillic", "arabic", ...: of most letters
    distinct: frozenset[bytes] = field(repr=False)  # the words in small letters, as UTF-8

    def as_mapping(self) -> dict[str, float]:
        """Return the unscaled signals by name."""
        return dict(zip(SURFACE_NAMES, self.values.tolist(), strict=True))


def _words(text: str) -> frozenset[bytes]:
    return frozenset(word.encode() for word in text.split())


_FACT = _words("who whom whose when where which name")
_REASON = _words("why how explain because prove show derive reason step steps compare discuss")
_QUANTITY = _words(
    "many much calculate compute find total percent average each value sum number evaluate "
    "determine estimate solve approximately probability ratio rate equation cost"
)
_NEGATION = _words(
    "not no never none nor neither except false incorrect wrong least without cannot isn't doesn't "
    "don't can't won't aren't"
)
_IMPERATIVE = _words(
    "write list give create generate translate summarize summarise complete implement make fix "
    "rewrite describe answer choose select identify convert classify extract compose draft "
    "produce return define design sort edit improve please tell let suppose consider"
)
_CODE = _words(
    "def return import assert function python javascript java sql class void int str const lambda "
    "elif print printf null none_type boolean array regex html css bash api async await struct "
    "std include public static self var func fn"
)
_PERSONS = _words("i me my we our you your he him his she her they them their")
_LIST = _words("list bullet bullets bulleted enumerate itemize itemise")
_TABLE = _words("table csv yaml xml markdown schema")
_JSON = _words("json")
_SPEAKERS = _words("user assistant system human ai bot")

# A letter or digit with what ends it; what begins it is looked at in `_multiple_choice`.
_OPTION = re.compile(rb"[A-J1-9](?:[.):] |')")
_BEFORE_OPTION = frozenset(b"\n ('")
_ORDINALS = (b"ABCDEFGHIJ", b"123456789")

_BYTE = np.arange(256)
_CHARS = [chr(code) for code in range(256)]


def _class(members: str) -> NDArray[np.bool_]:
    return np.isin(_BYTE, [ord(character) for character in members])


_CLASSES = (
    _class("0123456789"),
    _class("+-*/=<>^%~|\\${}"),
    _class("\n"),
    _class("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    _class("abcdefghijklmnopqrstuvwxyz"),
    _BYTE >= 0xC0,  # a lead byte: one character outside ASCII
    _class(".,;:!?()[]{}\"'`-+*/=<>^%~|\\$_#@&"),
)
_CLASS_ROWS = np.array(_CLASSES, dtype=np.int64)
_SCRIPT_LEADS: Mapping[str, tuple[int, int]] = {
    "latin": (0xC3, 0xCA),
    "greek": (0xCD, 0xCF),
    "cyrillic": (0xD0, 0xD4),
    "hebrew": (0xD6, 0xD7),
    "arabic": (0xD8, 0xDB),
    "indic": (0xE0, 0xE1),
    "cjk": (0xE3, 0xE9),
    "hangul": (0xEA, 0xED),
}
_WORD_BYTES = bytes(
    ord(character.lower()) if character.isalnum() or character in "_'" else 32
    for character in _CHARS[:128]
) + bytes(range(128, 256))


def clip_text(text: str) -> str:
    """Return the text itself, or its first and last 2,000 characters when it is longer."""
    if len(text) <= CLIP_CHARS:
        return text
    return text[: CLIP_CHARS // 2] + text[-CLIP_CHARS // 2 :]


def surface_signals(text: str) -> SurfaceSignals:
    """Read the signals off a text in time linear in its clipped length."""
    clipped = clip_text(text)
    data = clipped.encode("utf-8", "replace")
    histogram = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    digits, operators, newlines, upper, lower, wide, marks = (_CLASS_ROWS @ histogram).tolist()
    words = data.translate(_WORD_BYTES).split()
    distinct = frozenset(words)
    options, stem = _multiple_choice(data)
    chars = max(len(clipped), 1)
    letters = max(upper + lower + wide, 1)
    wants_json, wants_list = not _JSON.isdisjoint(distinct), not _LIST.isdisjoint(distinct)
    values = np.array(
        (
            math.log1p(chars),
            math.log1p(stem),
            math.log1p(options),
            math.sqrt(digits / chars),
            math.log1p(operators),
            math.log1p(len(distinct & _CODE) + 2 * data.count(b"```")),
            math.log1p(newlines),
            min(len(distinct & _FACT), 2),
            min(len(distinct & _REASON), 3),
            min(len(distinct & _QUANTITY), 4),
            data[:stem].rstrip().endswith(b"?"),
            math.log1p(_bullets(data) if newlines else 0),
            min(len(distinct & _NEGATION), 3),
            not _IMPERATIVE.isdisjoint(words[:1]),
            wants_json + wants_list + len(distinct & _TABLE),
            min(len(distinct & _PERSONS), 3),
            len(distinct) / max(len(words), 1),
            math.sqrt(upper / letters),
            math.sqrt(wide / letters),
            math.log1p(letters / max(len(words), 1)),
        ),
        dtype=np.float32,
    )
    estimate = _token_estimate(len(words), digits, marks, upper + lower, wide)
    return SurfaceSignals(
        values=values,
        token_estimate=max(1, round(estimate * len(text) / chars)),
        words=len(words),
        options=options,
        turns=_turns(data) if b":" in data else 0,
        wants_json=wants_json,
        wants_list=wants_list,
        script=_script(histogram, upper + lower, wide),
        distinct=distinct,
    )


def _token_estimate(words: int, digits: int, marks: int, letters: int, wide: int) -> float:
    """Return about how many tokens there are: within 20 % for nine English prompts of ten.

    Non-negative least squares on cl100k counts of 17,000 prompts; the floor of one token per eight
    letters is for text without blanks.
    """
    fitted = 0.95 * words + 0.73 * digits + 0.79 * marks + 0.034 * letters + 1.06 * wide
    return max(fitted, (letters + marks + digits) / 8 + wide)


def _multiple_choice(data: bytes) -> tuple[int, int]:
    """Return how many answer options there are, and how many bytes stand before them."""
    if b"B" not in data and b"2" not in data:
        return 0, len(data)  # one option is none
    marks = list(_option_marks(data))
    runs = [_run(data, marks, ordinals) for ordinals in _ORDINALS]
    count, start = max(runs, key=lambda run: run[0])
    return (count, start) if count >= 2 else (0, len(data))


def _option_marks(data: bytes) -> Iterator[int]:
    """Yield where a letter or digit stands between what begins and what ends an option's mark."""
    end = 0
    for match in _OPTION.finditer(data):
        at = match.start()
        if at > end and data[at - 1] in _BEFORE_OPTION:
            end = match.end()
            yield at


def _run(data: bytes, marks: Sequence[int], ordinals: bytes) -> tuple[int, int]:
    """Return how many marks follow each other as A, B, C ..., and where the first begins."""
    count = start = 0
    for at in marks:
        mark = data[at]
        if mark == ordinals[0]:
            count, start = 1, at - 1
        elif 0 < count < len(ordinals) and mark == ordinals[count]:
            count += 1
    return count, start


def _bullets(data: bytes) -> int:
    """Return how many lines begin with a dash or a star."""
    return sum(data.count(mark) for mark in (b"\n- ", b"\n* ", b"\n - ", b"\n  - "))


def _turns(data: bytes) -> int:
    """Return how many lines a speaker opens, as in `User: hello`."""
    heads = (line[:12].partition(b":") for line in data.split(b"\n"))
    return sum(bool(colon) and name.strip().lower() in _SPEAKERS for name, colon, _ in heads)


def _script(histogram: NDArray[np.int64], ascii_letters: int, wide: int) -> str:
    """Return the script of most letters, told by the lead bytes of UTF-8."""
    if 2 * wide <= ascii_letters:
        return "latin" if ascii_letters else "none"
    counts = {
        name: int(histogram[low : high + 1].sum()) for name, (low, high) in _SCRIPT_LEADS.items()
    }
    name = max(counts, key=counts.__getitem__)
    return name if 2 * counts[name] > wide else "other"


# --- fitted tables ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTables:
    """What turns an embedding and signals into the vector: fitted offline, on prompts alone."""

    components: Floats  # (COMPONENTS, dim), already half-whitened and scaled
    offset: Floats  # (COMPONENTS,): components @ mean
    signal_mean: Floats  # (len(SURFACE_NAMES),)
    signal_gain: Floats  # SURFACE_GAIN / standard deviation

    @property
    def dim(self) -> int:
        """The length of the embeddings that these tables take."""
        return int(self.components.shape[1])

    @property
    def digest(self) -> str:
        """Eight hex digits that differ when any number does."""
        parts = (self.components, self.offset, self.signal_mean, self.signal_gain)
        return blake2b(
            b"".join(np.ascontiguousarray(part, "<f4").tobytes() for part in parts), digest_size=4
        ).hexdigest()


PcaTable = FeatureTables


def fit_feature_tables(texts: Sequence[str], embeddings: NDArray[np.float32]) -> FeatureTables:
    """Return tables fitted on prompts: no outcome is looked at."""
    rows = np.asarray(embeddings, np.float64)
    if rows.ndim != 2 or len(rows) != len(texts) or len(rows) <= COMPONENTS:
        raise InvalidInput(
            f"embeddings must be one row per text and more than {COMPONENTS} of them",
            field="embeddings",
            value=rows.shape,
        )
    components, offset = _half_whitened(rows)
    mean, gain = _signal_scales(np.array([surface_signals(text).values for text in texts]))
    return FeatureTables(components, offset, mean, gain)


def _half_whitened(rows: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Return the first principal axes, each over its fourth root, the block at mean square 1."""
    mean = rows.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    top = np.argsort(values)[::-1][:COMPONENTS]
    variance, axes = np.maximum(values[top], 1e-12), vectors[:, top].T
    strongest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(len(axes)), strongest])[:, None]  # eigh leaves it open
    scaled = axes * variance[:, None] ** -0.25 / math.sqrt(np.sqrt(variance).sum())
    return scaled.astype(np.float32), (scaled @ mean).astype(np.float32)


def _signal_scales(values: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Return the mean of each signal and its gain; a signal that never moves keeps its unit."""
    wide = values.astype(np.float64)
    deviation = wide.std(axis=0)
    gain = SURFACE_GAIN / np.where(deviation > 1e-6, deviation, 1.0)
    return wide.mean(axis=0).astype(np.float32), gain.astype(np.float32)


# Embedders whose vectors share one space share one table; the ids are theirs, spelled here since
# this module knows no embedder.
SPACES: Mapping[str, str] = {
    "static-minilm-256/1": "static",
    "sentence-transformers/all-MiniLM-L6-v2": "minilm",
    "onnx/all-MiniLM-L6-v2-int8": "minilm",
}


@cache
def _shipped() -> Mapping[str, Floats]:
    """Read the fitted numbers of the package, once."""
    path = resources.files("conduit.engines.embeddings") / "data" / "features.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return dict(archive)


@cache
def feature_tables(embedder_id: str, dim: int) -> FeatureTables:
    """Return the shipped tables of an embedder, or a fixed projection for one we never fitted."""
    shipped, space = _shipped(), SPACES.get(embedder_id)
    mean, gain = shipped["signals.mean"], shipped["signals.gain"]
    if space is None:
        return FeatureTables(_random_axes(dim), np.zeros(COMPONENTS, np.float32), mean, gain)
    return FeatureTables(shipped[f"{space}.components"], shipped[f"{space}.offset"], mean, gain)


def _random_axes(dim: int) -> Floats:
    """Return the same orthogonal axes for the same `dim`, scaled to mean squared norm 1."""
    wide = max(dim, COMPONENTS)
    normal = np.random.default_rng(wide).standard_normal((wide, COMPONENTS))
    axes = np.linalg.qr(normal)[0].T * math.sqrt(wide / COMPONENTS)
    return axes[:, :dim].astype(np.float32)


# --- the vector ------------------------------------------------------------------------------


def schema_id(embedder_id: str, tables: FeatureTables | None = None) -> str:
    """Return the id of the layout; vectors of two ids mean different things.

    Tables of your own are another schema than the shipped ones.
    """
    own = "" if tables is None else f"+{tables.digest}"
    return f"{LAYOUT}:{VECTOR_DIM}:{embedder_id}{own}"


def scaled_signals(signals: SurfaceSignals) -> Floats:
    """Return the signals with the shipped scales, clipped as in the vector."""
    shipped = _shipped()
    scaled = (signals.values - shipped["signals.mean"]) * shipped["signals.gain"]
    limit = SURFACE_GAIN * SURFACE_CLIP
    clipped: Floats = np.minimum(np.maximum(scaled, -limit), limit)
    return clipped


def encode_vector(
    signals: SurfaceSignals,
    embedding: Floats | None,
    tables: FeatureTables,
    task: str | None = None,
) -> Floats:
    """Return the learner's vector; where no token was embedded its components are zero."""
    vector = np.zeros(VECTOR_DIM, np.float32)
    vector[0] = 1.0
    if embedding is not None and embedding.any():
        np.subtract(tables.components @ embedding, tables.offset, out=vector[1:SURFACE_START])
    surface = vector[SURFACE_START:TASK_START]
    np.subtract(signals.values, tables.signal_mean, out=surface)
    np.multiply(surface, tables.signal_gain, out=surface)
    np.minimum(surface, SURFACE_GAIN * SURFACE_CLIP, out=surface)
    np.maximum(surface, -SURFACE_GAIN * SURFACE_CLIP, out=surface)
    if task is not None:
        vector[TASK_START:] = task_columns(task)
    return vector


@lru_cache(maxsize=1024)
def task_columns(task: str) -> Floats:
    """Return the columns of a task label: the same for the same label, in every process."""
    digest = blake2b(task.strip().casefold().encode("utf-8", "replace"), digest_size=8).digest()
    code = int.from_bytes(digest, "little")
    first, code = code % TASK_COLUMNS, code // TASK_COLUMNS
    second = (first + 1 + code % (TASK_COLUMNS - 1)) % TASK_COLUMNS
    code //= TASK_COLUMNS - 1
    columns = np.zeros(TASK_COLUMNS, np.float32)
    columns[first] = math.sqrt(0.5) * (1 if code & 1 else -1)
    columns[second] = math.sqrt(0.5) * (1 if code & 2 else -1)
    columns.flags.writeable = False
    return columns
