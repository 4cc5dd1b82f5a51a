"""Requests that few send, and every server answers: tests and benchmarks send the same."""

from __future__ import annotations

from typing import Any

ODD_MESSAGES: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": ""}],
    [{"role": "user", "content": None}],
    [{"role": "system", "content": "Be brief."}],
    [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}],
    [{"role": "user", "content": "x" * 200_000}],
    [{"role": "user", "content": "Look it up."},
     {"role": "assistant", "content": None, "tool_calls": [
         {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
     {"role": "tool", "tool_call_id": "1", "content": "found"}],
    [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": ""}]}],
]  # fmt: skip
ODD_INPUTS: list[Any] = ["", ["one", "two"], [[1, 2, 3]], [1, 2, 3]]
