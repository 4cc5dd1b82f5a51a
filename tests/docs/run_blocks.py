"""Run blocks of Python one after the other in this process, and say how each one ended.

Reads a JSON list of {name, code, setup} and writes a JSON object of name to error, or null.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib.util
import inspect
import io
import json
import sys
import traceback
from pathlib import Path
from typing import Any


def run(code: str, name: str, setup: str | None) -> str | None:
    """Return the traceback of a block, or None if it ended well."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    compiled = compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waits = compiled.co_flags & inspect.CO_COROUTINE
    given = getattr(setups(), setup) if setup else contextlib.nullcontext
    try:
        with contextlib.redirect_stdout(io.StringIO()), given() as names:
            namespace.update(names or {})
            if waits:
                asyncio.run(eval(compiled, namespace))
            else:
                exec(compiled, namespace)
    except Exception:  # noqa: BLE001  whatever a block raises is its result
        return traceback.format_exc()
    return None


def setups() -> Any:
    """Return the module of what stands before blocks."""
    path = Path(__file__).with_name("setups.py")
    spec = importlib.util.spec_from_file_location("setups", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    ended = {one["name"]: run(one["code"], one["name"], one["setup"]) for one in wanted}
    json.dump(ended, sys.stdout)
