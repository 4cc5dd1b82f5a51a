"""`conduit route`, `explain`, `models`, `stats` and the database, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Conduit

COMMANDS = (
    "route", "explain", "models", "stats", "demo", "replay", "calibrate", "forget", "quarantine",
    "doctor", "db",
)  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    """`--help` says what a command does, and shows how it is called."""
    from typer.testing import CliRunner

    from conduit.cli.app import app

    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"conduit {name}" in result.output or name == "db"


def test_help_lists_the_commands_and_loads_nothing_heavy(conduit: Conduit) -> None:
    """`conduit --help` names every command; no numerical or vendor library is imported for it."""
    shown = conduit("--help", PYTHONPROFILEIMPORTTIME="1")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in COMMANDS)
    for heavy in ("numpy", "pydantic", "sqlalchemy", "pydantic_ai", "redis", "scipy"):
        assert f"| {heavy}\n" not in shown.stderr.replace("  ", "")


def test_route_answers_in_an_empty_folder(conduit: Conduit, tmp_path: Path) -> None:
    """Without keys, settings and database a model is chosen, explained, and nothing is written."""
    shown = conduit("route", "What is 2+2?")
    assert shown.returncode == 0, shown.stderr
    assert "is expected to reach quality" in shown.stdout
    assert "no provider key was found" in " ".join(shown.stdout.split())
    assert not [p for p in tmp_path.iterdir() if p.name != "home"]


def test_route_as_json_has_every_estimate(conduit: Conduit) -> None:
    """`--json` prints one object with the choice and what was expected of every model."""
    shown = conduit(
        "route", "-", "--models", "gpt-4o-mini,claude-haiku-4-5", "--prefer", "cost", "--json",
        given="Translate this.",
    )  # fmt: skip
    found = json.loads(shown.stdout)
    assert {e["model"] for e in found["estimates"]} == {"gpt-4o-mini", "claude-haiku-4-5"}
    assert found["model"] in ("gpt-4o-mini", "claude-haiku-4-5")
    assert 0.0 < found["propensity"] <= 1.0


def test_a_limit_removes_the_models_that_break_it(conduit: Conduit) -> None:
    """`--max-cost` leaves out the dear models, and says so of each."""
    shown = conduit("route", "Hello", "--max-cost", "0.001", "--json")
    found = json.loads(shown.stdout)
    assert found["excluded"]
    assert found["model"] not in {gone["model"] for gone in found["excluded"]}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("route", ""), 2, "text must not be empty"),
        (("route", "hi", "--models", ","), 2, "models must not be empty"),
        (("route", "hi", "--prefer", "fast"), 2, "balanced"),
        (("route", "hi", "--max-cost", "-1"), 2, "max_cost"),
        (("route", "hi", "--max-cost", "0", "--strict"), 1, "no model satisfies the constraints"),
        (("stats",), 2, "there is no database here"),
        (("stats", "--since", "soon"), 2, "no span of time"),
        (("explain", "nope"), 2, "there is no database here"),
        (("forget", "--user", "u1"), 2, "there is no database here"),
        (("models", "--provider", "opnai"), 2, "did you mean 'openai'"),
        (("db", "check"), 2, "there is no database here"),
        (("replay", "gone.csv", "--baseline", "a"), 2, "there is no file"),
        (("demo", "--out", "no/where.html"), 2, "there is no folder"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    inline: Conduit, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Whatever the user gets wrong, they read what it was, and never a traceback."""
    shown = inline(*arguments)
    assert shown.returncode == code, shown.stderr
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"DATABASE_URL": "mysql://u:hunter2@h/d"}, "known are sqlite"),
        ({"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:9/d"}, "could not"),
        ({"CONDUIT_SEED": "seven"}, "CONDUIT_SEED"),
    ],
)
def test_a_wrong_setting_is_named_and_no_password_shown(
    inline: Conduit, environ: dict[str, str], words: str
) -> None:
    """Settings that cannot work end a command with their name, and without what is secret."""
    shown = inline("stats", **environ)
    assert shown.returncode in (1, 2)
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr
    assert "hunter2" not in shown.stderr


def test_a_database_keeps_decisions_for_explain_and_stats(inline: Conduit, tmp_path: Path) -> None:
    """Once there is a database, a decision can be looked up, counted, pruned and checked."""
    made = inline("db", "upgrade", "--json")
    assert json.loads(made.stdout)["before"] is None
    assert (tmp_path / "conduit.db").is_file()
    assert inline("db", "check").returncode == 0
    decision = json.loads(inline("route", "What is 2+2?", "--json").stdout)
    explained = json.loads(inline("explain", decision["id"], "--json").stdout)
    assert explained["model"] == decision["model"]
    assert set(explained["estimates"]) == {e["model"] for e in decision["estimates"]}
    counted = json.loads(inline("stats", "--json").stdout)
    assert counted["decisions"] == 1
    forgotten = json.loads(inline("forget", "--user", "u1", "--json").stdout)
    assert forgotten["feedback_deleted"] == 0
    for options, hidden in (((), True), (("--undo",), False)):
        said = json.loads(inline("quarantine", "--user", "u1", *options, "--json").stdout)
        assert said == {"user": "u1", "quarantined": hidden}
    pruned = json.loads(inline("db", "prune", "--older-than", "0s", "--json").stdout)
    assert set(pruned) == {"decisions", "responses", "feedback"}


def test_models_say_which_keys_were_found(inline: Conduit, tmp_path: Path) -> None:
    """A key in .env counts as found, and is not shown."""
    (tmp_path / ".env").write_text("ANTHROPIC_API_KEY=sk-hunter2\n", encoding="utf-8")
    shown = inline("models", "--json")
    found = json.loads(shown.stdout)["models"]
    assert {m["provider"] for m in found if m["key_found"]} == {"anthropic"}
    assert "hunter2" not in shown.stdout + inline("models").stdout + inline("doctor").stdout


def test_doctor_finds_an_empty_folder_healthy(inline: Conduit) -> None:
    """Nothing that is merely unused is called wrong."""
    shown = inline("doctor", "--json")
    report = json.loads(shown.stdout)
    assert shown.returncode == 0
    assert report["ok"]
    assert {"python", "keys", "offline model", "database", "redis", "clock"} <= {
        f["what"] for f in report["findings"]
    }


@pytest.mark.parametrize(
    ("environ", "what"),
    [
        ({"REDIS_URL": "redis://127.0.0.1:9/0"}, "redis"),
        ({"DATABASE_URL": "postgresql://u:p@127.0.0.1:9/d"}, "database"),
        ({"CONDUIT_MODELS": "gpt-4o-mini"}, "gpt-4o-mini"),
        ({"CONDUIT_SEED": "seven"}, "settings"),
    ],
)
def test_doctor_names_what_does_not_work(
    inline: Conduit, environ: dict[str, str], what: str
) -> None:
    """A server that is away, a model without a key, a wrong setting: each named, with a remedy."""
    shown = inline("doctor", "--json", **environ)
    assert shown.returncode == 1, shown.stderr
    wrong = {f["what"]: f["do"] for f in json.loads(shown.stdout)["findings"]
             if f["status"] == "wrong"}  # fmt: skip
    assert set(wrong) == {what}
    assert wrong[what]
