"""Embeddings that depend on nothing but the text: texts that share words are near."""

import base64
import math
import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, TypeGuard

from conduit.testing.provider_models import count_tokens

DIMENSIONS = 1_536
MAX_DIMENSIONS = 4_096


def embeddings_body(request: Mapping[str, Any], model: str) -> tuple[dict[str, Any], int]:
    """Return the response to an embeddings request, and its tokens; ValueError when malformed."""
    texts = _texts(request["input"])
    wanted = request.get("dimensions")
    dim = DIMENSIONS if wanted is None else wanted
    if not isinstance(dim, int) or not 1 <= dim <= MAX_DIMENSIONS:
        raise ValueError(f"dimensions must be from 1 to {MAX_DIMENSIONS}")
    as_base64 = request.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": i, "embedding": _encoded(vector_of(text, dim), as_base64)}
        for i, text in enumerate(texts)
    ]
    tokens = sum(map(count_tokens, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}, tokens


def _texts(given: object) -> list[str]:
    """Return the texts to embed; a list of tokens, which OpenAI takes as well, is one text."""
    parts: list[Any] = given if isinstance(given, list) and not _are_tokens(given) else [given]
    if not parts or not all(isinstance(part, str) or _are_tokens(part) for part in parts):
        raise ValueError("input must be a string, or a list of strings or of tokens")
    return [part if isinstance(part, str) else " ".join(map(str, part)) for part in parts]


def _are_tokens(given: object) -> TypeGuard[list[int]]:
    return isinstance(given, list) and bool(given) and all(type(part) is int for part in given)


def vector_of(text: str, dim: int = DIMENSIONS) -> list[float]:
    """Return the unit vector of a text: each word adds or takes one at a place of its own."""
    vector = [0.0] * dim
    for word in text.casefold().split() or [""]:
        digest = int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest())
        vector[(digest >> 1) % dim] += 1.0 if digest & 1 else -1.0
    norm = math.sqrt(sum(value * value for value in vector))
    if norm == 0.0:  # words that cancel each other
        return [1.0, *vector[1:]]
    return [value / norm for value in vector]


def _encoded(vector: list[float], as_base64: bool) -> list[float] | str:
    if not as_base64:
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
