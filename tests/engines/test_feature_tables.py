"""The numbers behind the vector: fitted tables, fixed projections, and what the heads read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from benchmarks.fit.feature_tables import differences
from conduit.core.errors import InvalidInput
from conduit.engines import features
from conduit.engines.embeddings.static import StaticEmbedder
from conduit.engines.features import (
    COMPONENTS,
    TASK_START,
    FeatureTables,
    encode_vector,
    feature_tables,
    fit_feature_tables,
    schema_id,
    surface_signals,
)

STATIC = StaticEmbedder.id

# What the shipped numbers are, per layout. Vectors made with other numbers mean something else:
# whoever fits new tables raises the version in LAYOUT and writes the new digests here.
SHIPPED = {"conduit-features/2": {"static": "856d7f93", "minilm": "58c09be8"}}

ANY_TEXT = st.text(
    st.one_of(st.characters(), st.characters(categories=["Cs"]), st.just("\x00")), max_size=200
)


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    """Return the default embedder."""
    return StaticEmbedder()


@pytest.fixture(scope="module")
def tables(embedder: StaticEmbedder) -> FeatureTables:
    """Return the shipped tables of the default embedder."""
    return feature_tables(embedder.id, embedder.dim)


# --- tables ----------------------------------------------------------------------------------


def prompts(count: int) -> list[str]:
    """Return so many different texts."""
    kinds = ("What is {} + 2?", "Write a poem about {} moons.", "Is {} prime?\nA. yes\nB. no")
    return [kinds[number % 3].format(number) for number in range(count)]


def rows(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Return unit rows whose axes differ in variance."""
    generator = np.random.default_rng(seed)
    wide = generator.standard_normal((count, dim)) * np.geomspace(3.0, 0.1, dim)
    unit: np.ndarray = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit.astype(np.float32)


def test_fitted_blocks_have_the_weights_they_should() -> None:
    """On what they were fitted on, components have mean 0 and mean squared norm 1."""
    texts, embeddings = prompts(300), rows(300, 20)
    tables = fit_feature_tables(texts, embeddings)
    block = embeddings @ tables.components.T - tables.offset
    np.testing.assert_allclose(block.mean(axis=0), 0.0, atol=1e-4)
    assert float((block**2).sum(axis=1).mean()) == pytest.approx(1.0, rel=0.02)
    values = np.array([surface_signals(text).values for text in texts])
    scaled = (values - tables.signal_mean) * tables.signal_gain
    moving = values.std(axis=0) > 1e-6
    np.testing.assert_allclose(scaled[:, moving].std(axis=0), (tables.limit / 3)[moving], rtol=1e-3)
    assert moving.sum() >= 6
    known = [tables.known(surface_signals(t), e) for t, e in zip(texts, embeddings, strict=True)]
    curved = np.array([tables.curved(k) for k in known])
    np.testing.assert_allclose(curved.mean(axis=0), 0.0, atol=1e-3)
    assert float((curved**2).sum(axis=1).mean()) == pytest.approx(1.0, rel=0.02)


def test_components_are_half_whitened() -> None:
    """A component's spread is the square root of what it is along the plain principal axis."""
    embeddings = rows(400, 20)
    tables = fit_feature_tables(prompts(400), embeddings)
    spread = (embeddings @ tables.components.T).std(axis=0)
    plain = np.sqrt(np.sort(np.linalg.eigvalsh(np.cov(embeddings, rowvar=False)))[::-1][:8])
    np.testing.assert_allclose(spread / spread[0], np.sqrt(plain / plain[0]), rtol=0.02)
    assert (np.diff(spread) <= 1e-6).all()


@pytest.mark.parametrize("fitted_on", [200, 80], ids=["all", "drawn"])
def test_fitting_does_not_depend_on_the_order_of_prompts(
    monkeypatch: pytest.MonkeyPatch, fitted_on: int
) -> None:
    """The same prompts in another order give the same tables, also where some are drawn of them."""
    monkeypatch.setattr(features, "_FITTED_ON", fitted_on)
    texts, embeddings = prompts(200), rows(200, 12)
    order = np.random.default_rng(1).permutation(200)
    first = fit_feature_tables(texts, embeddings)
    second = fit_feature_tables([texts[index] for index in order], embeddings[order])
    np.testing.assert_allclose(first.components, second.components, atol=1e-4)
    np.testing.assert_allclose(first.signal_gain, second.signal_gain, rtol=1e-4)
    np.testing.assert_allclose(first.landmarks, second.landmarks, atol=1e-4)


@pytest.mark.parametrize(
    "shape", [(5, 20), (100, 20), (101,)], ids=["few", "other count", "one axis"]
)
def test_tables_need_a_row_per_text(shape: tuple[int, ...]) -> None:
    """Too few rows, another number of rows than texts, or no rows at all are refused."""
    texts = prompts(5 if shape[0] == 5 else 101)
    with pytest.raises(InvalidInput, match="one row per text"):
        fit_feature_tables(texts, np.ones(shape, np.float32))


def test_an_embedder_we_never_fitted_gets_a_fixed_projection() -> None:
    """Any other embedder has orthogonal axes that are the same every time and need no data."""
    tables, again = feature_tables("somebody/else", 64), feature_tables("another/one", 64)
    np.testing.assert_array_equal(tables.components, again.components)
    gram = tables.components @ tables.components.T
    np.testing.assert_allclose(gram, np.eye(COMPONENTS) * 64 / COMPONENTS, atol=1e-4)
    unit = np.random.default_rng(0).standard_normal((500, 64))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    assert ((unit @ tables.components.T) ** 2).sum(axis=1).mean() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("dim", [1, 3, 8, 1536])
def test_every_dimension_has_a_projection(dim: int) -> None:
    """Embeddings of any length fill the components."""
    tables = feature_tables("somebody/else", dim)
    assert tables.dim == dim
    vector = encode_vector(surface_signals("hi"), np.ones(dim, np.float32), tables)
    assert vector[1:TASK_START].any()


@pytest.mark.parametrize(
    ("space", "embedder_id", "dim"),
    [
        ("static", STATIC, 256),
        ("minilm", "sentence-transformers/all-MiniLM-L6-v2", 384),
        ("minilm", "onnx/all-MiniLM-L6-v2-int8", 384),
    ],
)
def test_shipped_tables_are_those_of_the_layout(space: str, embedder_id: str, dim: int) -> None:
    """New numbers are a new layout: nobody mixes vectors that mean different things."""
    tables = feature_tables(embedder_id, dim)
    assert tables.dim == dim
    assert tables.digest == SHIPPED[features.LAYOUT][space]


def test_schemas_differ_where_vectors_mean_something_else(tables: FeatureTables) -> None:
    """Another embedder or other tables are another schema; the same ones are the same."""
    own = fit_feature_tables(prompts(100), rows(100, 256))
    ids = [
        schema_id(STATIC),
        schema_id("onnx/x"),
        schema_id(STATIC, own),
        schema_id(STATIC, tables),
    ]
    assert len(set(ids)) == len(ids)
    assert schema_id(STATIC, own) == schema_id(STATIC, own)


def test_importing_features_loads_no_vendor() -> None:
    """The module is pure: it brings neither a tokenizer nor a learning library with it."""
    script = (
        "import sys, conduit.engines.features;"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'tokenizers', 'onnxruntime', 'asyncio')"
        " if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"


def test_a_shipped_file_is_compared_number_by_number(tmp_path: Path) -> None:
    """Numbers that differ are named, NaN and missing ones too; a table without rows is no error."""
    shipped = {"same": np.ones(3), "none": np.zeros((0, 12)), "off": np.ones(3), "nan": np.ones(3)}
    np.savez(tmp_path / "shipped.npz", **shipped)
    assert differences(shipped, tmp_path / "shipped.npz") == []
    made = shipped | {"off": np.array([1, 1, 1.5]), "nan": np.full(3, np.nan), "new": np.ones(1)}
    found = differences(made, tmp_path / "shipped.npz")
    assert [each.split()[0].rstrip(":") for each in found] == ["new", "nan", "off"]
