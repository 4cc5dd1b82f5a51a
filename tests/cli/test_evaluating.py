"""`conduit replay` and `conduit calibrate` on files as users have them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from conduit.cli.demo_world import MODELS, NAMES, make_world
from conduit.cli.logs import read_log
from conduit.cli.replay_page import Replayed
from conduit.core.errors import ConduitError
from conduit.evaluation.replay import replay
from conduit.testing import LocalProvider
from tests.cli.conftest import Conduit

WORLD = make_world(60, seed=2)


def write_long(path: Path) -> None:
    """Write one row per prompt and model."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt", "model", "quality", "cost_usd", "latency_s"])
        for i, question in enumerate(WORLD.questions):
            for k, name in enumerate(NAMES):
                rows.writerow(
                    [question.prompt, name, WORLD.quality[i, k], WORLD.cost_usd[i, k], ""]
                )


def write_wide(path: Path) -> None:
    """Write one object per prompt."""
    rows = [
        {
            "text": question.prompt,
            **{f"quality:{m}": WORLD.quality[i, k] for k, m in enumerate(NAMES)},
            **{f"cost_usd:{m}": WORLD.cost_usd[i, k] for k, m in enumerate(NAMES)},
        }
        for i, question in enumerate(WORLD.questions)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


@pytest.mark.parametrize(("name", "write"), [("a.csv", write_long), ("a.jsonl", write_wide)])
@pytest.mark.parametrize("plot", ["plot.svg", "plot.html"])
def test_replay_compares_routing_with_the_baseline(
    inline: Conduit, tmp_path: Path, name: str, write: object, plot: str
) -> None:
    """Long or wide, the table gives the same baselines, a verdict and a plot of its own."""
    assert callable(write)
    write(tmp_path / name)
    shown = inline(
        "replay", name, "--baseline", "sim-large", "--orders", "1", "--out", plot, "--json"
    )
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    by_name = {s["name"].split(" (")[0]: s for s in found["strategies"]}
    k = NAMES.index("sim-large")
    assert by_name["baseline"]["quality"] == pytest.approx(WORLD.quality[:, k].mean())
    assert by_name["baseline"]["cost_usd"] == pytest.approx(WORLD.cost_usd[:, k].mean())
    assert {"Conduit", "static mix, same cost", "best single in hindsight"} <= set(by_name)
    assert "<svg" in (tmp_path / plot).read_text(encoding="utf-8")


def test_what_is_compared_answers_the_same_queries(tmp_path: Path) -> None:
    """Prompts that were calibrated on are left out of every row, not of Conduit's alone."""
    write_long(tmp_path / "a.csv")
    log = read_log(tmp_path / "a.csv")
    result = replay(log.table, policy="always_cheapest", cost_weight=0.1, orders=2, calibration=30)
    assert max(result.share_by_model.values()) == 1.0
    ours, *others = Replayed(log, result, "sim-large", 0.1).strategies()
    same = next(row for row in others if row.name.startswith("always cheapest"))
    assert (same.quality, same.cost_usd) == pytest.approx((ours.quality, ours.cost_usd))
    assert same.utility == pytest.approx(ours.utility)


def test_parquet_is_read_like_the_other_formats(tmp_path: Path) -> None:
    """A Parquet table gives what its CSV gives; without a reader, one sentence says what to do."""
    write_long(tmp_path / "a.csv")
    pandas = pytest.importorskip("pandas")
    try:
        pandas.read_csv(tmp_path / "a.csv").to_parquet(tmp_path / "a.parquet")
    except ImportError:
        (tmp_path / "a.parquet").write_bytes(b"PAR1")
        with pytest.raises(ConduitError, match="pip install pyarrow"):
            read_log(tmp_path / "a.parquet")
        return
    assert read_log(tmp_path / "a.parquet").table.size == len(WORLD.questions)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt,model,quality\nhi,m,4\n", "a.csv:2: quality is 4"),
        ("prompt,model,quality\nhi,m,good\n", "a.csv:2: quality is not a number"),
        ("prompt,model,quality\n,m,1\n", "a.csv:2: no prompt"),
        ("prompt,quality\nhi,1\n", "neither a column `model`"),
        ("prompt,model,quality,cost_usd\nhi,m,1,-2\n", "cost_usd is -2"),
        ("prompt,model,quality\nhi,m,1\n", "0 of 1 prompts"),
        ("prompt,model,quality\n", "has no rows"),
    ],
)
def test_a_log_that_cannot_be_replayed_is_explained(tmp_path: Path, text: str, words: str) -> None:
    """The message names the line and what is wrong with it."""
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    if words.startswith("0 of 1"):
        words = "of 1 prompts"
    with pytest.raises(ConduitError, match=words):
        read_log(tmp_path / "a.csv")


def test_calibrate_asks_every_model_and_keeps_what_was_paid(
    conduit: Conduit, tmp_path: Path
) -> None:
    """Every prompt goes to every model over HTTP; a second run asks nobody again."""
    rows = [{"prompt": q.prompt, "expected": q.expected} for q in WORLD.questions[:6]]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with LocalProvider(MODELS, seed=2).serve_in_thread() as provider:
        models = [
            {"id": m.name, "base_url": provider.base_url,
             "input_usd_per_mtok": m.input_usd_per_mtok,
             "output_usd_per_mtok": m.output_usd_per_mtok}
            for m in MODELS[:2]
        ]  # fmt: skip
        environ = {"CONDUIT_MODELS": json.dumps(models)}
        first = conduit("calibrate", "p.jsonl", "--max-usd", "1", "--json", **environ)
        asked = len(provider.requests)
        second = conduit("calibrate", "p.jsonl", "--max-usd", "1", "--json", **environ)
        assert (asked, len(provider.requests)) == (12, 12)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    report = json.loads(first.stdout)["report"]
    assert (report["prompts"], report["complete"]) == (6, 6)
    assert (tmp_path / "calibration-report.html").is_file()


@pytest.mark.parametrize(
    ("grader", "words"),
    [("nowhere", "module:function"), ("no_such_module:f", "No module named"),
     ("json:nothing", "has no 'nothing'")],
)  # fmt: skip
def test_a_grader_that_is_not_there_is_named(
    inline: Conduit, tmp_path: Path, grader: str, words: str
) -> None:
    """Nobody is asked anything before the grader is known."""
    (tmp_path / "p.jsonl").write_text('{"prompt": "hi"}\n', encoding="utf-8")
    shown = inline("calibrate", "p.jsonl", "--max-usd", "1", "--grader", grader)
    assert shown.returncode == 2
    assert words in shown.stderr
