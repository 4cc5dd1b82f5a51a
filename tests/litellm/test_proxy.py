"""LiteLLM's proxy with the strategy, set up by what docs/litellm.md says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import socket
import sqlite3
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from litellm import Router
from openai import AsyncOpenAI, OpenAIError

from conduit.testing.local_provider import LocalProvider
from conduit_litellm import ConduitRoutingStrategy
from conduit_litellm.proxy import ProxyHandler
from tests.litellm.conftest import Deploy, ask, until

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "litellm.md").read_text()
WHOLE = find_spec("litellm_proxy_extras") is not None  # litellm[proxy] is installed
STARTS_WITHIN_S = 120


def block(language: str, containing: str) -> str:
    """Return the one block of the document in that language that contains a word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    (found,) = (b for b in blocks if containing in b)
    return str(found)


def write_set_up(folder: Path, url: str) -> None:
    """Write the document's module and configuration, with a provider on this machine."""
    (folder / "conduit_proxy.py").write_text(block("python", "ProxyHandler"))
    config = yaml.safe_load(block("yaml", "model_list"))
    for entry in config["model_list"]:
        entry["litellm_params"] |= {"api_base": url, "api_key": "local"}
    (folder / "config.yaml").write_text(json.dumps(config))


def rows(folder: Path, table: str) -> list[str]:
    """Return the model of each row of a table in the document's database."""
    with sqlite3.connect(f"file:{folder}/conduit.db?mode=ro", uri=True) as database:
        return [row[0] for row in database.execute(f"SELECT model FROM {table}")]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("apscheduler") is None, reason="litellm[proxy] is not installed")
async def test_the_proxy_routes_and_learns(provider: LocalProvider, tmp_path: Path) -> None:
    """What the client asks through the proxy is decided by us, and each answer is credited once."""
    write_set_up(tmp_path, provider.base_url)
    port = free_port()
    code = "import sys; from litellm import run_server; sys.exit(run_server())"
    command = [sys.executable, "-W", "ignore", "-c", code, "--config", "config.yaml",
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    key = f"sk-{secrets.token_hex(32)}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LITELLM_MASTER_KEY": key,
                   "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # fmt: skip
    with (tmp_path / "output").open("w+") as output:
        proxy = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
        try:
            async with AsyncOpenAI(
                base_url=f"http://127.0.0.1:{port}", api_key=key, max_retries=0
            ) as client:
                await ready(client, proxy, tmp_path / "output")
                await converse(client)
                served = [row.model for row in provider.requests]
                await until(lambda: len(rows(tmp_path, "feedback")) >= len(served), 15.0)
        finally:
            if proxy.returncode is None:
                proxy.terminate()
            await proxy.wait()
    model = {"mini": "gpt-4o-mini", "large": "gpt-4o"}
    assert len(served) == 8
    for table in ("decisions", "feedback"):
        assert Counter(model[name] for name in rows(tmp_path, table)) == Counter(served)


async def test_a_proxy_whose_database_is_away_serves_all_the_same(
    provider: LocalProvider,
    deploy: Deploy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """LiteLLM chooses until the database is there; then we do, and write to it."""
    folder = tmp_path / "away"
    router = Router(model_list=[deploy("g", "gpt-4o", "a")])
    # The proxy's module needs LiteLLM's extra; of it the handler reads this one name.
    proxy_server = ModuleType("litellm.proxy.proxy_server")
    proxy_server.llm_router = router  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litellm.proxy.proxy_server", proxy_server)
    monkeypatch.setattr("litellm.proxy.proxy_server", proxy_server, raising=False)
    folder.write_text("not a folder")
    strategy = ConduitRoutingStrategy(database_url=f"sqlite+aiosqlite:///{folder}/conduit.db")
    handler = ProxyHandler(strategy)
    async with strategy:
        for _ in range(3):
            await handler.async_pre_call_hook(None, None, {}, "completion")
            await router.acompletion(model="g", messages=ask("hello"))
        assert not strategy.stats().decisions
        assert caplog.text.count("Conduit could not be set up") == 1
        folder.unlink()
        folder.mkdir()
        handler.not_before = 0.0
        await handler.async_pre_call_hook(None, None, {}, "completion")
        response = await router.acompletion(model="g", messages=ask("hello"))
        await strategy.arecord_feedback(response, quality_score=0.9)
    assert rows(folder, "decisions") == ["a"]


async def converse(client: AsyncOpenAI) -> None:
    """Ask eight questions, every other one with a streamed answer."""
    for k in range(4):
        asked = [{"role": "user", "content": f"Question {k}?"}]
        answer = await client.chat.completions.create(model="gpt", messages=asked)  # type: ignore[call-overload]
        assert answer.choices[0].message.content
        stream = await client.chat.completions.create(model="gpt", messages=asked, stream=True)  # type: ignore[call-overload]
        pieces = [c.choices[0].delta.content or "" async for c in stream if c.choices]
        assert "".join(pieces)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ready(client: AsyncOpenAI, proxy: asyncio.subprocess.Process, output: Path) -> None:
    """Wait until the proxy lists its models; skip where LiteLLM says that it lacks a package."""
    end = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end and proxy.returncode is None:
        try:
            await client.models.list()
        except OpenAIError:
            await asyncio.sleep(0.3)
        else:
            return
    said = output.read_text()  # noqa: ASYNC240  the proxy has ended
    missing = re.search(r"(?:Missing dependency )?No module named '([\w.]+)'", said)
    if missing and not WHOLE:
        pytest.skip(f"LiteLLM's proxy needs {missing[1]}: litellm[proxy] is not installed")
    pytest.fail(f"the proxy did not start: {said[-2_000:]}")
