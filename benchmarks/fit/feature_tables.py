"""Fit the tables of the vector on prompts alone: components, scales of signals, the kernel.

    python -m benchmarks.fit.feature_tables            # make the file
    python -m benchmarks.fit.feature_tables --check    # is the shipped file what this makes?

The space of all-MiniLM-L6-v2 is fitted on every fourth prompt, since the transformer is slow.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fit.prompts import arguments, load_all, share
from benchmarks.fit.static_embedder import DATA, model_folder
from conduit.engines.embeddings.static import StaticEmbedder
from conduit.engines.features import KERNEL_PARTS, clip_text, fit_feature_tables

FILE = DATA / "features.npz"
MINILM_SHARE = 4
TOLERANCE = 2e-3  # of the largest number: another machine's sums end in other digits


def minilm_rows(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the sentence transformer's embeddings."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    model = SentenceTransformer(str(model_folder()), device="cpu")
    clipped = [clip_text(text) for text in texts]
    rows: NDArray[np.float32] = model.encode(
        clipped, batch_size=64, normalize_embeddings=True, show_progress_bar=False
    )
    return rows


def fit(root: Path) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of the file: every table's prompts count the same for the kernel."""
    tables = load_all(root)
    texts = [text for table in tables for text in table.texts]
    ids = [name for table in tables for name in table.ids]
    shares = [1.0 / len(table.texts) for table in tables for _ in table.texts]
    static = fit_feature_tables(
        texts, StaticEmbedder().embed([clip_text(text) for text in texts]), shares=shares
    )
    some = np.flatnonzero(share(ids, MINILM_SHARE, "pca") == 0).tolist()
    picked = [texts[k] for k in some]
    minilm = fit_feature_tables(picked, minilm_rows(picked), shares=[shares[k] for k in some])
    return {
        "signals.mean": static.signal_mean,
        "signals.gain": static.signal_gain,
        **{
            f"{space}.{part}": getattr(fitted, part)
            for space, fitted in (("static", static), ("minilm", minilm))
            for part in ("components", "offset", *KERNEL_PARTS)
        },
    }


def compared(made: Mapping[str, NDArray[Any]], shipped: Path) -> int:
    """Say whether a shipped file holds these numbers; return the exit status."""
    found = differences(made, shipped)
    print("\n".join(found) or f"{shipped.name} holds what this program makes")
    return 1 if found else 0


def differences(made: Mapping[str, NDArray[Any]], shipped: Path) -> list[str]:
    """Return a line per array that differs by more than the tolerance."""
    with np.load(shipped) as archive:
        theirs = dict(archive)
    found = [f"{name} is not in the file" for name in sorted(made.keys() - theirs.keys())]
    for name in sorted(made.keys() & theirs.keys()):
        if made[name].shape != theirs[name].shape:
            found.append(f"{name}: {made[name].shape}, shipped {theirs[name].shape}")
            continue
        if made[name].dtype.kind == "S":
            if not np.array_equal(made[name], theirs[name]):
                found.append(f"{name}: other words")
            continue
        largest = np.abs(theirs[name]).max(initial=0.0) or 1.0  # there may be no number at all
        off = float(np.abs(made[name] - theirs[name]).max(initial=0.0) / largest)
        if not off <= TOLERANCE:  # nor is NaN
            found.append(f"{name}: off by {off:.1e} of its largest number")
    return found


def main() -> int:
    """Make the file, or compare what is made with what is shipped."""
    options = arguments("Fit the tables of the feature vector.").parse_args()
    arrays = fit(options.data)
    if not options.check:
        np.savez(FILE, **arrays)  # type: ignore[arg-type]
        return 0
    return compared(arrays, FILE)


if __name__ == "__main__":
    sys.exit(main())
