"""What the written pages hold: blocks of code, commands in prose, links and anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^(?:<!-- setup: (?P<setup>\w+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"(?<!\!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_PROGRAMS = (
    "conduit", "make", "python", "pip", "pytest", "alembic", "litellm", "redis-cli", "sqlite3",
    "git", "uvicorn", "./migrate.sh",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, and the name of what must be there before it runs."""

    page: Path
    line: int
    language: str
    code: str
    setup: str | None

    @property
    def name(self) -> str:
        """Return where it stands."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """A command line that a page shows."""

    where: str
    text: str


@cache
def pages() -> tuple[Path, ...]:
    """Return every page that people read."""
    own = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return tuple(sorted([*own, *ROOT.glob("conduit_litellm/*.md"), *ROOT.glob("migrations/*.md")]))


@cache
def text_of(page: Path) -> str:
    """Return a page."""
    return page.read_text(encoding="utf-8")


@cache
def blocks() -> tuple[Block, ...]:
    """Return every fenced block of every page."""
    found = []
    for page in pages():
        text = text_of(page)
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start("code"))
            found.append(Block(page, line, match["language"], match["code"], match["setup"]))
    return tuple(found)


def prose(page: Path) -> str:
    """Return a page without its blocks, line by line where it was."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text_of(page))


def commands() -> Iterator[Command]:
    """Yield every command of a shell block, and every one that the prose names."""
    for block in blocks():
        if block.language in ("sh", "bash", "shell", "console"):
            joined = block.code.replace("\\\n", " ")
            for line in joined.splitlines():
                if line.strip() and not line.startswith("#"):
                    yield Command(block.name, line.partition("  #")[0].strip())
    for page in pages():
        for match in _INLINE.finditer(prose(page)):
            text = " ".join(match[1].split())
            if text.partition(" ")[0] in _PROGRAMS and " " in text:
                yield Command(str(page.relative_to(ROOT)), text)


def links() -> Iterator[tuple[Path, str]]:
    """Yield every link that does not leave the repository."""
    for page in pages():
        for match in _LINK.finditer(_INLINE.sub("", prose(page))):
            target = match[1] or match[2]
            if not re.match(r"[a-z]+:", target):
                yield page, target


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that a page's headings have, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    names = (re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings)
    return frozenset(names)
