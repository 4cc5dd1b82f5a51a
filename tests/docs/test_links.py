"""Every link that stays in the repository leads somewhere, and every page of the site is listed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import conduit
from tests.docs.pages import ROOT, anchors, links


@pytest.mark.parametrize(
    ("page", "target"), list(links()), ids=[f"{p.relative_to(ROOT)}->{t}" for p, t in links()]
)
def test_the_link_resolves(page: Path, target: str) -> None:
    """The file is there, and so is the heading."""
    path, _, anchor = target.partition("#")
    found = (page.parent / path).resolve() if path else page
    assert found.exists(), f"{target} does not exist"
    if anchor:
        assert anchor in anchors(found), f"{found.name} has no heading #{anchor}"


def test_the_site_lists_every_page() -> None:
    """A page that is not listed is a page that nobody finds, and one that is gone is an error."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    config = hooks.on_config(SimpleNamespace(nav=nav))
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").glob("**/*.md")}
    assert hooks._listed(config.nav) == pages


def test_the_api_page_has_every_public_name() -> None:
    """What is public is described."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [
        n for n in conduit.__all__ if n != "__version__" and f"::: conduit.{n}\n" not in text
    ]
    assert not missing


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs/decisions").glob("*.md")), ids=lambda p: p.stem
)
def test_a_decision_is_read_at_a_glance(page: Path) -> None:
    """It has 30 lines at most, as CONTRIBUTING.md says."""
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 30
