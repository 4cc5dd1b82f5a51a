"""The vector that the learner sees: surface signals and an embedding, made curved and short.

Layout of the vector (`VECTOR_DIM` numbers): a bias; kernel principal components of what is known of
the text; and the task columns, all zero without a task. What is known: the principal components of
the embedding, half-whitened, with mean squared norm 1, and the surface signals as z-scores times
their gain, clipped at z = 3. The kernel components let a linear learner follow what only holds for
texts of one kind, such as long ones with formulas (docs/decisions/0007). Whatever changes the
meaning of a number changes `LAYOUT`, hence `schema_id`, so that old and new vectors never meet in
one model.

Nothing here looks at a clock, a setting or the network. The fitted numbers lie in one data file of
the package, which is read once, when the first table is asked for; `benchmarks/fit/` makes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from hashlib import blake2b
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import InvalidInput
from conduit.engines.surface import (
    CLIP_CHARS,
    SURFACE_NAMES,
    Floats,
    SurfaceSignals,
    clip_text,
    surface_signals,
)

LAYOUT = "conduit-features/2"

COMPONENTS = 8  # of the embedding
KERNEL_COMPONENTS = 28
TASK_COLUMNS = 8
KNOWN = COMPONENTS + len(SURFACE_NAMES)  # numbers that the kernel looks at
TASK_START = 1 + KERNEL_COMPONENTS
VECTOR_DIM = TASK_START + TASK_COLUMNS

SURFACE_GAIN = 0.2  # 20 signals then weigh 0.8 beside the embedding's 1.0
BUILD_GAIN = 0.15  # of those that say how the text is built: many, and alike
READ_BY_HEADS = 20  # the signals before those
SURFACE_CLIP = 3.0  # in standard deviations

# The kernel: KERNEL_WIDTH is where two texts stop telling of each other, KERNEL_LINEAR the part of
# what holds for all of them. Chosen before any table was judged; halves and doubles are ties.
KERNEL_WIDTH = 0.8
KERNEL_HEIGHT = 0.1
KERNEL_LINEAR = 0.02
LANDMARKS = 256  # texts that stand for all: with half of them the components are as good
KERNEL_PARTS = ("landmarks", "projection", "centre")
_LLOYD_ROUNDS = 8
_FITTED_ON = 6_000  # rows at most: more do not move the components
_LEAST_VARIANCE = 1e-8  # of the greatest: less is rounding


# --- fitted tables ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FeatureTables:
    """What turns an embedding and signals into the vector: fitted offline, on prompts alone."""

    components: Floats  # (COMPONENTS, dim), already half-whitened and scaled
    offset: Floats  # (COMPONENTS,): components @ mean
    signal_mean: Floats  # (len(SURFACE_NAMES),)
    signal_gain: Floats  # gain / standard deviation
    landmarks: Floats  # (landmarks, KNOWN)
    projection: Floats  # (KERNEL_COMPONENTS, landmarks)
    centre: Floats  # (KERNEL_COMPONENTS,): projection @ mean kernel

    @property
    def dim(self) -> int:
        """The length of the embeddings that these tables take."""
        return int(self.components.shape[1])

    @property
    def digest(self) -> str:
        """Eight hex digits that differ when any number does."""
        parts = (
            self.components, self.offset, self.signal_mean, self.signal_gain, self.landmarks,
            self.projection, self.centre,
        )  # fmt: skip
        return blake2b(
            b"".join(np.ascontiguousarray(part, "<f4").tobytes() for part in parts), digest_size=4
        ).hexdigest()

    @property
    def limit(self) -> Floats:
        """The greatest size of each scaled signal."""
        return _MOST

    @cached_property
    def _folded(self) -> Floats:
        """What the kernel takes of what is known, then of 1 and of its exponent, in one product.

        First, per landmark, the logarithm of how near it is; then, per component, the linear part.
        """
        count = len(self.landmarks)
        folded = np.zeros((count + KERNEL_COMPONENTS, KNOWN + 2))
        folded[:count, :KNOWN] = self.landmarks / KERNEL_WIDTH**2
        squares = (self.landmarks.astype(np.float64) ** 2).sum(axis=1)
        folded[:count, KNOWN] = math.log(KERNEL_HEIGHT) - 0.5 * squares / KERNEL_WIDTH**2
        folded[:count, KNOWN + 1] = 1.0
        folded[count:, :KNOWN] = KERNEL_LINEAR * self.projection @ self.landmarks
        folded[count:, KNOWN] = -self.centre
        return np.ascontiguousarray(folded.T, np.float32)  # so that the sums run along memory

    def known(self, signals: SurfaceSignals, embedding: Floats | None) -> Floats:
        """Return what is known of a text, scaled; without an embedding its components are zero."""
        known = np.zeros(KNOWN, np.float32)
        if embedding is not None and embedding.dot(embedding) > 0.0:
            np.subtract(self.components.dot(embedding), self.offset, out=known[:COMPONENTS])
        surface = known[COMPONENTS:]
        np.subtract(signals.values, self.signal_mean, out=surface)
        np.multiply(surface, self.signal_gain, out=surface)
        np.minimum(surface, _MOST, out=surface)
        np.maximum(surface, _LEAST, out=surface)
        return known

    def curved(self, known: Floats) -> Floats:
        """Return the kernel components of what is known."""
        seen = np.empty(KNOWN + 2, np.float32)
        seen[:KNOWN] = known
        seen[KNOWN], seen[KNOWN + 1] = 1.0, -0.5 * float(known.dot(known)) / KERNEL_WIDTH**2
        read = seen.dot(self._folded)
        near, line = read[:-KERNEL_COMPONENTS], read[-KERNEL_COMPONENTS:]
        components: Floats = self.projection.dot(np.exp(near, out=near))
        components += line
        return components


_GAINS = np.full(len(SURFACE_NAMES), BUILD_GAIN, np.float32)
_GAINS[:READ_BY_HEADS] = SURFACE_GAIN
_MOST, _LEAST = SURFACE_CLIP * _GAINS, -SURFACE_CLIP * _GAINS  # of each scaled signal


def fit_feature_tables(
    texts: Sequence[str],
    embeddings: NDArray[np.float32],
    *,
    shares: Sequence[float] | None = None,
) -> FeatureTables:
    """Return tables fitted on prompts: no outcome is looked at.

    `shares` says how much of the kernel's attention each prompt gets, as where a small source is to
    count as much as a large one.
    """
    rows = np.asarray(embeddings, np.float64)
    if rows.ndim != 2 or len(rows) != len(texts) or len(rows) <= COMPONENTS:
        raise InvalidInput(
            f"embeddings must be one row per text and more than {COMPONENTS} of them",
            field="embeddings",
            value=rows.shape,
        )
    components, offset = _half_whitened(rows)
    values = np.array([surface_signals(text).values for text in texts], np.float64)
    mean, gain = _signal_scales(values)
    scaled = np.clip((values - mean) * gain, _LEAST, _MOST)
    known = np.column_stack([rows @ components.T - offset, scaled]).astype(np.float64)
    return FeatureTables(components, offset, mean, gain, *_fit_kernel(known, shares))


def _half_whitened(rows: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Return the first principal axes, each over its fourth root, the block at mean square 1."""
    mean = rows.mean(axis=0)
    variance, axes = _principal(rows, COMPONENTS)
    scaled = axes * variance[:, None] ** -0.25 / math.sqrt(np.sqrt(variance).sum())
    return scaled.astype(np.float32), (scaled @ mean).astype(np.float32)


def _principal(
    rows: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the greatest variances and their axes as rows, the sign of each settled."""
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    top = np.argsort(values)[::-1][:count]
    axes = vectors[:, top].T
    strongest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(len(axes)), strongest])[:, None]  # eigh leaves it open
    return np.maximum(values[top], 1e-12), axes


def _signal_scales(values: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Return the mean of each signal and its gain; a signal that never moves keeps its unit."""
    deviation = values.std(axis=0)
    gain = _GAINS / np.where(deviation > 1e-6, deviation, 1.0)
    return values.mean(axis=0).astype(np.float32), gain.astype(np.float32)


def _fit_kernel(
    known: NDArray[np.float64], shares: Sequence[float] | None
) -> tuple[Floats, Floats, Floats]:
    """Return landmarks, projection and centre: kernel principal components by Nyström's method.

    Each component is divided by the fourth root of its variance, and all of them by what makes
    their mean squared norm 1, as those of the embedding.
    """
    rows = _drawn(known, shares)
    landmarks = _landmarks(rows, min(LANDMARKS, len(rows)))
    values, vectors = np.linalg.eigh(_kernel(landmarks, landmarks))
    kept = values > _LEAST_VARIANCE * values.max()
    whitener = vectors[:, kept] / np.sqrt(values[kept])
    kernel = _kernel(rows, landmarks)
    mapped = kernel @ whitener
    variance, axes = _principal(mapped, KERNEL_COMPONENTS)
    scale = variance[:, None] ** -0.25 / math.sqrt(np.sqrt(variance).sum())
    found = (axes * scale) @ whitener.T
    projection = np.zeros((KERNEL_COMPONENTS, len(landmarks)))
    projection[: len(found)] = found
    centre = projection @ kernel.mean(axis=0)
    return tuple(a.astype(np.float32) for a in (landmarks, projection, centre))  # type: ignore[return-value]


def _kernel(rows: NDArray[np.float64], landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    inner = rows @ landmarks.T
    squares = (rows**2).sum(axis=1)[:, None] + (landmarks**2).sum(axis=1) - 2.0 * inner
    near = np.exp(-np.maximum(squares, 0.0) / (2.0 * KERNEL_WIDTH**2))
    return np.asarray(KERNEL_HEIGHT * near + KERNEL_LINEAR * inner)


def _drawn(known: NDArray[np.float64], shares: Sequence[float] | None) -> NDArray[np.float64]:
    """Return the rows that the kernel is fitted on, whatever order they came in."""
    given = np.ones(len(known)) if shares is None else np.asarray(shares, np.float64)
    order = np.lexsort(known.T[::-1].round(4))
    known, given = known[order], given[order]
    if len(known) <= _FITTED_ON:
        return known
    generator = np.random.default_rng(_FITTED_ON)  # noqa: TID251  seeded
    chosen = generator.choice(len(known), _FITTED_ON, replace=False, p=given / given.sum())
    return known[np.sort(chosen)]


def _landmarks(rows: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the centres of so many clusters (Lloyd's rounds from rows drawn at random)."""
    generator = np.random.default_rng(count)  # noqa: TID251  seeded
    centres = rows[np.sort(generator.choice(len(rows), count, replace=False))].copy()
    for _ in range(_LLOYD_ROUNDS):
        nearest = ((centres**2).sum(axis=1) - 2.0 * rows @ centres.T).argmin(axis=1)
        sizes = np.bincount(nearest, minlength=count)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, rows)
        centres[sizes > 0] = sums[sizes > 0] / sizes[sizes > 0, None]
    return centres


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
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # noqa: TID251  our own
        return dict(archive)


@cache
def feature_tables(embedder_id: str, dim: int) -> FeatureTables:
    """Return the shipped tables of an embedder, or a fixed projection for one we never fitted."""
    shipped, space = _shipped(), SPACES.get(embedder_id)
    axes = (shipped[f"{space}.components"], shipped[f"{space}.offset"]) if space else None
    kernel = (shipped[f"{space or 'static'}.{part}"] for part in KERNEL_PARTS)
    return FeatureTables(
        *(axes or (_random_axes(dim), np.zeros(COMPONENTS, np.float32))),
        shipped["signals.mean"],
        shipped["signals.gain"],
        *kernel,
    )


def _random_axes(dim: int) -> Floats:
    """Return the same orthogonal axes for the same `dim`, scaled to mean squared norm 1."""
    wide = max(dim, COMPONENTS)
    normal = np.random.default_rng(wide).standard_normal((wide, COMPONENTS))  # noqa: TID251  seeded
    axes = np.linalg.qr(normal)[0].T * math.sqrt(wide / COMPONENTS)
    return axes[:, :dim].astype(np.float32)


# --- the vector ------------------------------------------------------------------------------


def schema_id(embedder_id: str, tables: FeatureTables | None = None) -> str:
    """Return the id of the layout; vectors of two ids mean different things.

    Tables of your own are another schema than the shipped ones.
    """
    own = "" if tables is None else f"+{tables.digest}"
    return f"{LAYOUT}:{VECTOR_DIM}:{embedder_id}{own}"


def scaled_signals(values: Floats) -> Floats:
    """Return, of all signals, those that the heads read, with the shipped scales, clipped."""
    shipped = _shipped()
    first = slice(READ_BY_HEADS)
    scaled = (values[first] - shipped["signals.mean"][first]) * shipped["signals.gain"][first]
    limit = SURFACE_GAIN * SURFACE_CLIP
    clipped: Floats = np.minimum(np.maximum(scaled, -limit), limit)
    return clipped


def encode_vector(
    signals: SurfaceSignals,
    embedding: Floats | None,
    tables: FeatureTables,
    task: str | None = None,
) -> Floats:
    """Return the learner's vector; where no token was embedded, of the signals alone."""
    vector = np.zeros(VECTOR_DIM, np.float32)
    vector[0] = 1.0
    vector[1:TASK_START] = tables.curved(tables.known(signals, embedding))
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


__all__ = [
    "CLIP_CHARS", "COMPONENTS", "KERNEL_COMPONENTS", "KERNEL_PARTS", "LAYOUT", "SPACES",
    "SURFACE_NAMES", "TASK_COLUMNS", "TASK_START", "VECTOR_DIM", "FeatureTables", "Floats",
    "SurfaceSignals", "clip_text", "encode_vector", "feature_tables", "fit_feature_tables",
    "scaled_signals", "schema_id", "surface_signals", "task_columns",
]  # fmt: skip
