"""How a name becomes an embedder."""

from __future__ import annotations

from pathlib import Path

from conduit.core.errors import ConfigurationError, unknown_name
from conduit.engines.embeddings.base import Embedder

# The names that need no path, in the order in which an error lists them.
KNOWN_NAMES: tuple[str, ...] = (
    "static",
    "all-MiniLM-L6-v2",
    "paraphrase-MiniLM-L6-v2",
    "all-mpnet-base-v2",
    "onnx",
)
_HUB = "sentence-transformers/"


def create_embedder(name: str | Embedder | None = None) -> Embedder:
    """Return the embedder of a name, an embedder as it is, or the default one for None.

    A name is one of KNOWN_NAMES, `sentence-transformers/NAME`, `onnx:PATH`, or the path of a
    folder with a sentence-transformers model.
    """
    if name is None:
        return _static()
    if not isinstance(name, str):
        return _as_embedder(name)
    if name == "static":
        return _static()
    if name == "onnx" or name.startswith("onnx:"):
        return _onnx(name.partition(":")[2] or None)
    if name.startswith(_HUB) or name in KNOWN_NAMES or _is_folder(name):
        return _sentence_transformers(name)
    known = (*KNOWN_NAMES, "sentence-transformers/NAME", "onnx:PATH", "a folder")
    raise ConfigurationError(unknown_name("embedding model", name, known), field="embedding_model")


def _is_folder(name: str) -> bool:
    return bool(name) and Path(name).expanduser().is_dir()


def _as_embedder(value: object) -> Embedder:
    if isinstance(value, Embedder) and not isinstance(value, type):
        return value
    raise ConfigurationError(
        f"embedding_model must be a name or have id, dim, blocking and embed(texts), "
        f"got {type(value).__name__}",
        field="embedding_model",
    )


# Each adapter is imported when it is asked for: what is not used is not loaded.


def _static() -> Embedder:
    from conduit.engines.embeddings.static import StaticEmbedder

    return StaticEmbedder()


def _onnx(path: str | None) -> Embedder:
    from conduit.engines.embeddings.onnx import OnnxEmbedder

    return OnnxEmbedder(path)


def _sentence_transformers(name: str) -> Embedder:
    from conduit.engines.embeddings.sentence_transformers import SentenceTransformersEmbedder

    return SentenceTransformersEmbedder(name)
