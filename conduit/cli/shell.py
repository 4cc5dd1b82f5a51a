"""What every command has in common: how it ends, and where it writes.

A command ends with 0 when all is well, 1 when what was asked for is not, 2 when the call itself
was wrong, and 130 when the user interrupted it. Results go to standard output, words about them to
standard error.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

P = ParamSpec("P")
R = TypeVar("R")

NOT_OK = 1
WRONG_CALL = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_WIDTH = 120  # columns where nobody looks: a file or a pipe has no width

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn Conduit's errors into one line and an exit code, and an interruption into 130."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        from conduit.core.errors import ConduitError

        try:
            return function(*args, **kwargs)
        except ConduitError as error:
            fail(str(error), code=_code(error))
        except BaseExceptionGroup as group:  # of a task group: every one of ours, or not ours
            ours, others = group.split(ConduitError)
            if ours is None or others is not None:
                raise
            first = _first(ours)
            fail(str(first), code=_code(first))
        except KeyboardInterrupt:
            fail("interrupted", code=INTERRUPTED)
        except BrokenPipeError:
            sys.stderr.close()  # the reader has gone, and Python would say so at exit
            raise typer.Exit(NOT_OK) from None

    return guarded


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _code(error: BaseException) -> int:
    from conduit.core.errors import ConfigurationError, InvalidInput

    return WRONG_CALL if isinstance(error, (InvalidInput, ConfigurationError)) else NOT_OK


def fail(message: str, *, code: int = NOT_OK) -> NoReturn:
    """End the command with one line on standard error."""
    line = "; ".join(part.strip() for part in message.splitlines() if part.strip())
    typer.echo(f"conduit: {line}", err=True)
    raise typer.Exit(code) from None


def wrong(message: str) -> NoReturn:
    """End the command because it was called wrongly."""
    fail(message, code=WRONG_CALL)


def console(*, stderr: bool = False) -> Console:
    """Return the terminal, or a wide plain page where the output is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def say(text: str) -> None:
    """Write words that are not the result."""
    typer.echo(text, err=True)


def show(*what: RenderableType) -> None:
    """Write the result for people."""
    page = console()
    for part in what:
        page.print(part, markup=False)


def show_json(value: object) -> None:
    """Write the result as JSON: unknown is null, and so is what is not finite."""
    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value: object) -> Any:
    """Return a value as JSON knows it.

    >>> plain({"a": float("nan"), "b": (1, 2)})
    {'a': None, 'b': [1, 2]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence):
        return [plain(v) for v in value]
    return str(value)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """Return a table; the first column is left-aligned, the others to the right.

    A column whose name ends with a space is left-aligned as well.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for k, name in enumerate(columns):
        left = k == 0 or name.endswith(" ")
        grid.add_column(
            name.strip(), justify="left" if left else "right", overflow="fold", no_wrap=not left
        )
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


def dollars(value: float | None) -> str:
    """Return an amount with as many digits as it takes to tell it from another.

    >>> dollars(0.00012), dollars(1.5), dollars(None)
    ('$0.00012', '$1.50', 'unknown')
    """
    if value is None:
        return "unknown"
    if value == 0 or abs(value) >= 0.995:
        return f"${value:,.2f}"
    digits = 1 - math.floor(math.log10(abs(value)))
    return f"${value:.{digits}f}"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many decimals, or that it is unknown."""
    return "unknown" if value is None else f"{value:.{digits}f}"


def existing_file(path: Path) -> Path:
    """Return the path of a file that is there."""
    if not path.is_file():
        wrong(f"there is no file {str(path)!r}")
    return path


def writable(path: Path) -> Path:
    """Return the path of a file that can be written, before any work is done for it."""
    if path.is_dir():
        wrong(f"{str(path)!r} is a folder; name a file")
    if not path.absolute().parent.is_dir():
        wrong(f"there is no folder {str(path.absolute().parent)!r} to write {path.name!r} into")
    return path
