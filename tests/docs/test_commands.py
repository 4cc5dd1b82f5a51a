"""Every command in the README, the docs and the help texts is run here, or has the test named."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conduit.testing import LocalProvider
from tests.docs.pages import ROOT, Command, commands

# What another test runs, and where.
ELSEWHERE = {
    "litellm --config": "tests/litellm/test_proxy.py",
    "redis-cli -u": "tests/test_servers.py",
    "git clone": "tests/test_wheel.py",
    "make demo": "tests/cli/test_demo.py",
}
# What a page leaves to the reader.
PLACEHOLDERS = {"TEXT": "'a query'", "LOG": "answers.csv", "PROMPTS": "prompts.jsonl",
                "MODEL": "gpt-4o"}  # fmt: skip
MODELS = ("gpt-4o-mini", "gpt-4o")
_UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\bID\b")


NAMES = {
    f"conduit {name}"
    for name in ("replay", "calibrate", "forget", "quarantine", "explain", "route", "db")
}


def of_help() -> Iterator[Command]:
    """Yield the examples of the help texts."""
    for source in sorted((ROOT / "conduit" / "cli").glob("*.py")):
        for line in source.read_text(encoding="utf-8").splitlines():
            if re.match(r" {6}(?:[A-Z_]+=\S+ )?conduit ", line):
                yield Command(str(source.relative_to(ROOT)), line.strip())


ALL = list({c.text: c for c in [*commands(), *of_help()]}.values())
OURS = [c for c in ALL if re.match(r"(?:[A-Z_]+=\S+ )*conduit |echo .* \| conduit ", c.text)]
OTHERS = [c for c in ALL if c not in OURS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder as a user of the docs has it: a log, prompts, a grader, models, a database."""
    path = tmp_path_factory.mktemp("user")
    rows = ["prompt,model,quality,cost_usd,latency_s"]
    for i in range(120):
        rows += [
            f"What is {i}+{i}?,{m},{(i + k) % 2},0.00{k + 1},0.5" for k, m in enumerate(MODELS)
        ]
    (path / "answers.csv").write_text("\n".join(rows), encoding="utf-8")
    records = [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:]]
    (path / "answers.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    prompts = [{"prompt": f"What is {i}+{i}?", "expected": str(2 * i)} for i in range(4)]
    (path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)), encoding="utf-8")
    (path / "my_app").mkdir()
    (path / "my_app" / "grading.py").write_text("def grade(prompt, answer):\n    return 1.0\n")
    with LocalProvider().serve_in_thread() as provider:
        wanted = ("id", "base_url", "input_usd_per_mtok", "output_usd_per_mtok")
        arms = [{name: getattr(arm, name) for name in wanted} for arm in provider.arms]
        (path / "conduit.yaml").write_text(json.dumps({"models": arms}), encoding="utf-8")
        yield path


@pytest.fixture(scope="module")
def decision_id(folder: Path) -> str:
    """Return the id of a decision that the database of the folder keeps."""
    assert run("conduit db upgrade", folder)[0] == 0
    code, output = run("conduit route hello --json", folder)
    assert code == 0, output
    found: str = json.loads(output)["id"]
    return found


def run(command: str, folder: Path) -> tuple[int, str]:
    """Return the exit code and the output of a conduit command, run in the folder."""
    from conduit.cli.app import app

    said, _, line = command.rpartition(" | ")
    words = shlex.split(line)
    while "=" in words[0]:
        words.pop(0)  # another database: here it is the folder's own
    before, environ = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    try:
        given = shlex.split(said)[1] if said else None
        result = CliRunner().invoke(app, words[1:], input=given)
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environ)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    output: str = result.stdout
    return result.exit_code, output or result.output


def runnable(text: str, decision_id: str) -> str:
    """Return a command as it can be run: placeholders filled, a bare name as its help."""
    text = _UUID.sub(decision_id, text)
    for name, value in PLACEHOLDERS.items():
        text = re.sub(rf"\b{name}\b", value, text)
    text = text.replace("[OPTIONS]", "")
    if text.startswith("conduit demo") and "--help" not in text:
        text = "conduit demo --no-http --queries 20 --calibrate 2 --out demo.html"
    if text in NAMES:
        text += " --help"
    return text


@pytest.mark.parametrize("command", OURS, ids=lambda c: c.text)
def test_the_command_works(command: Command, folder: Path, decision_id: str) -> None:
    """A reader who types it sees it work."""
    code, output = run(runnable(command.text, decision_id), folder)
    assert code == 0, f"{command.where}: {output}"
    assert output.strip()


@pytest.mark.parametrize("command", OTHERS, ids=lambda c: c.text)
def test_the_other_command_works_or_is_tested(command: Command, tmp_path: Path) -> None:
    """What is no command of ours names what exists, and is run here where that is cheap."""
    text = command.text
    elsewhere = next((where for said, where in ELSEWHERE.items() if text.startswith(said)), None)
    if elsewhere is not None:
        assert (ROOT / elsewhere).is_file()
        return
    words = [w for w in shlex.split(text) if not re.match(r"[A-Z_]+=", w) and w != "export"]
    checks = {"make": _target, "python": _python, "pip": _package, "pytest": _paths,
              "alembic": _migration, "./migrate.sh": _migration, "sqlite3": _backup}  # fmt: skip
    if words:
        assert words[0] in checks, f"{command.where}: no test knows {text!r}"
        checks[words[0]](words, tmp_path)


def _target(words: list[str], _: Path) -> None:
    assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def _python(words: list[str], folder: Path) -> None:
    if words[1] == "-m":
        path = ROOT / (words[2].replace(".", "/") + ".py")
        assert '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    elif words[1] == "-c":
        subprocess.run([sys.executable, *words[1:]], cwd=folder, check=True, stdout=subprocess.PIPE)
    elif "..." not in words[1]:
        assert (ROOT / words[1]).is_file()  # tests/test_examples.py and tests/litellm run them


def _package(words: list[str], _: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = {re.split(r"[<>=\[]", need)[0] for needs in extras.values() for need in needs}
    for wanted in words[2:]:
        name, _, extra = wanted.rstrip("]").partition("[")
        assert name == project["name"] or name in needed | {"pyarrow"}
        assert not extra or set(extra.split(",")) <= set(extras)


def _paths(words: list[str], _: Path) -> None:
    assert all((ROOT / word).exists() for word in words[1:] if not word.startswith("-"))


def _migration(words: list[str], folder: Path) -> None:
    url = "postgresql://host/db" if "--sql" in words else f"sqlite+aiosqlite:///{folder}/c.db"
    environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DATABASE_URL": url}
    line = [word for word in words if word != ">" and not word.endswith(".sql")]
    if line[:2] == ["alembic", "downgrade"]:
        subprocess.run(["alembic", "upgrade", "head"], cwd=ROOT, env=environ, check=True)
    done = subprocess.run(
        line, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def _backup(words: list[str], folder: Path) -> None:
    assert words[2].startswith(".backup ")
    if shutil.which("sqlite3"):
        subprocess.run(words, cwd=folder, check=True, timeout=300)
