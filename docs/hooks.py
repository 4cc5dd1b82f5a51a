"""What the site takes from outside docs/: the measured plots, and the list of decisions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
RESULTS = "../benchmarks/results/"  # as a page on GitHub links to a plot
TABLES = f"[All tables]({RESULTS}README.md)"


def on_config(config: Any) -> Any:
    """List every decision under its own title, the oldest first."""
    paths = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    listed = [{_title(path): f"decisions/{path.name}"} for path in paths]
    for entry in config.nav:
        if "Decisions" in entry:
            entry["Decisions"] = listed
    return config


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def on_files(files: Files, config: Any) -> Files:
    """Publish the plots of the benchmarks beside the pages."""
    for path in sorted((ROOT / "benchmarks" / "results").rglob("*")):
        if path.suffix in (".svg", ".png"):
            uri = f"results/{path.relative_to(ROOT / 'benchmarks' / 'results').as_posix()}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the measured tables where a page links to them, and point at the site's own plots."""
    if TABLES in markdown:
        text = (ROOT / "benchmarks" / "results" / "README.md").read_text(encoding="utf-8")
        _title_line, _newline, body = text.partition("\n")
        body = re.sub(r"^#", "##", body, flags=re.MULTILINE).replace("](", f"]({RESULTS}")
        markdown = markdown.replace(TABLES, body)
    return markdown.replace(f"({RESULTS}", "(results/")
