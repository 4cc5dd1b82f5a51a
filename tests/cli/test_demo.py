"""`conduit demo`, end to end, with few queries."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conduit.cli.demo_world import MODELS, NAMES, arms, baselines, make_world
from conduit.engines.executor.base import Call
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.testing import LocalProvider
from tests.cli.conftest import ROOT, Conduit


@pytest.mark.parametrize("way", ["--http", "--no-http"])
def test_the_demo_ends_with_figures_and_a_page(conduit: Conduit, tmp_path: Path, way: str) -> None:
    """Over HTTP and without, every query is answered and one in five rated; a page is written."""
    shown = conduit("demo", way, "--queries", "30", "--calibrate", "4", "--json")
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert (found["queries"], found["failed"], found["rated"]) == (30, 0, 6)
    assert found["conduit"]["cost_usd"] > 0.0
    assert len(found["baselines"]) == 5
    assert found["not_calibrated"]["name"] == "Conduit, not calibrated"
    assert found["not_calibrated"]["cost_usd"] != found["conduit"]["cost_usd"]
    assert abs(sum(found["share_by_model"].values()) - 1.0) < 1e-9
    text = (tmp_path / "demo-report.html").read_text(encoding="utf-8")
    assert "The models are simulated" in text
    assert "Conduit, not calibrated" in text
    assert not [p for p in tmp_path.iterdir() if p.name not in ("demo-report.html", "home")]


def test_the_page_stands_alone(conduit: Conduit, tmp_path: Path) -> None:
    """The page loads nothing, runs no script, and each plot's axes have their units."""
    conduit("demo", "--no-http", "--queries", "30", "--calibrate", "0")
    text = (tmp_path / "demo-report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=|<script|@import|url\(|http", text.replace("HTTP", ""))
    for label in ("spent so far, US dollars", "right answers so far, per cent",
                  "share of the queries, per cent", "queries answered"):  # fmt: skip
        assert text.count(f">{label}<") >= 2  # for a wide and for a narrow screen


def test_people_read_that_the_models_are_simulated(conduit: Conduit) -> None:
    """The screen says so too, beside the best single model and the static mix."""
    shown = conduit("demo", "--no-http", "--queries", "20", "--calibrate", "0")
    assert "The models are simulated" in shown.stdout
    assert "best single in hindsight" in shown.stdout
    assert "static mix, same cost" in shown.stdout


async def test_the_baselines_are_what_the_provider_would_have_answered() -> None:
    """What is computed without a call equals what the models say and cost over HTTP."""
    world = make_world(12, seed=5)
    executor = PydanticAIExecutor()
    async with LocalProvider(MODELS, seed=5) as provider:
        for k, arm in enumerate(arms(provider.base_url)):
            answers = await asyncio.gather(
                *(executor.execute(arm, Call(q.prompt)) for q in world.questions)
            )
            right = [float(q.grade(a.data)) for q, a in zip(world.questions, answers, strict=True)]
            assert right == world.quality[:, k].tolist()
            spent = [a.response.cost_usd for a in answers]
            assert spent == pytest.approx(world.cost_usd[:, k].tolist())
        await executor.close()


def test_the_static_mix_costs_what_routing_cost() -> None:
    """The mix spends the same money, and the best single model has the highest utility."""
    world = make_world(200, seed=1)
    found = {s.name.split(" (")[0]: s for s in baselines(world, routed_usd=0.5)}
    assert found["static mix, same cost"].cost_usd == pytest.approx(0.5)
    single = world.utility(world.quality, world.cost_usd).mean(axis=0)
    assert found["best single in hindsight"].utility == pytest.approx(single.max())
    assert found["random"].quality == pytest.approx(world.quality.mean())
    assert NAMES[int(np.argmin(world.cost_usd.mean(axis=0)))] == NAMES[world.cheapest]


def test_an_interruption_is_clean(tmp_path: Path) -> None:
    """Ctrl-C ends the demo with 130 and one line, and leaves no page behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "conduit.cli", "demo", "--no-http", "--queries", "5000"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    process.stderr.readline()  # it has begun
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert said.strip().endswith("conduit: interrupted")
    assert "Traceback" not in said
    assert not (tmp_path / "demo-report.html").exists()
