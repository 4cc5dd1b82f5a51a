"""What the site is given when it is built: measured tables and curves, and the decisions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TABLES = "[All tables](../benchmarks/results/README.md)"  # a link, for who reads the file itself
CURVES = re.compile(r"<!-- curves: (\w+) -->")


def on_config(config: Any) -> Any:
    """List every decision, the oldest first, and before them what mkdocs.yml does not list."""
    docs = ROOT / "docs"
    decisions = sorted((docs / "decisions").glob("*.md"))
    listed = _listed(config.nav)
    more = [path for path in sorted(docs.glob("*.md")) if path.name not in listed]
    if more:
        config.nav.append({"More": [{_title(path): path.name} for path in more]})
    config.nav.append({"Decisions": [{_title(p): f"decisions/{p.name}"} for p in decisions]})
    return config


def _listed(nav: Any) -> set[str]:
    """Return the pages of a navigation."""
    if isinstance(nav, str):
        return {nav}
    entries = nav.values() if isinstance(nav, dict) else nav
    return {page for entry in entries for page in _listed(entry)}


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put measured tables and curves where a page says that they are."""
    if TABLES in markdown:
        text = (ROOT / "benchmarks" / "results" / "README.md").read_text(encoding="utf-8")
        _title_line, _newline, body = text.partition("\n")
        markdown = markdown.replace(TABLES, re.sub(r"^#", "##", body, flags=re.MULTILINE))
    return CURVES.sub(lambda found: _curves(found[1]), markdown)


def _curves(kind: str) -> str:
    """Return the plots that `python -m benchmarks.learning` drew of policies or of peers."""
    drawn = sorted((ROOT / "docs" / "img").glob(f"learning-*-{kind}.svg"))
    pictures = (f"![Regret of {kind}, {p.stem.split('-')[1]}](img/{p.name})" for p in drawn)
    return "\n\n".join(f'<div class="plot" markdown>\n{one}\n</div>' for one in pictures)
