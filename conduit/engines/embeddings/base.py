"""What an embedder is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into unit vectors; the same text always into the same one."""

    @property
    def id(self) -> str:
        """Name the weights and options: two embedders of one id give the same vectors."""
        ...

    @property
    def dim(self) -> int:
        """The length of every vector."""
        ...

    @property
    def blocking(self) -> bool:
        """Whether one call may take more than 2 ms, so that it must not run in an event loop."""
        ...

    def embed(self, texts: Sequence[str]) -> Rows:
        """Return one row of unit length per text; a text without any token is a row of zeros."""
        ...
