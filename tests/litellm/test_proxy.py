"""LiteLLM's proxy with the strategy, as docs/litellm.md sets it up."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from openai import AsyncOpenAI, OpenAIError

from conduit.testing.local_provider import LocalProvider
from tests.litellm.conftest import until

NEEDED = ("fastapi", "uvicorn", "orjson", "apscheduler", "backoff", "websockets", "gunicorn")
MISSING = [name for name in NEEDED if find_spec(name) is None]
ROOT = Path(__file__).parents[2]

MODULE = """
import logging
from conduit_litellm import ConduitRoutingStrategy
from conduit_litellm.proxy import ProxyHandler
logging.getLogger("conduit_litellm").addHandler(logging.FileHandler("conduit.log"))
logging.getLogger("conduit_litellm").setLevel(logging.INFO)
handler = ProxyHandler(ConduitRoutingStrategy())
"""
CONFIG = """
model_list:
  - model_name: gpt
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{url}", api_key: local}}
    model_info: {{id: mini}}
  - model_name: gpt
    litellm_params: {{model: openai/gpt-4o, api_base: "{url}", api_key: local}}
    model_info: {{id: large}}
litellm_settings:
  callbacks: conduit_proxy.handler
"""


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"LiteLLM's proxy needs {', '.join(MISSING)}")
async def test_the_proxy_routes_and_learns(provider: LocalProvider, tmp_path: Path) -> None:
    """Requests through the proxy are decided by us, and each is credited once."""
    (tmp_path / "conduit_proxy.py").write_text(MODULE)
    (tmp_path / "config.yaml").write_text(CONFIG.format(url=provider.base_url))
    port = free_port()
    code = "import sys; from litellm import run_server; sys.exit(run_server())"
    command = [sys.executable, "-W", "ignore", "-c", code, "--config", "config.yaml",
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    log = tmp_path / "conduit.log"
    proxy = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}", api_key="any", max_retries=0)
        await ready(client, proxy)
        for k in range(6):
            answer = await client.chat.completions.create(
                model="gpt", messages=[{"role": "user", "content": f"Question {k}?"}]
            )
            assert answer.choices[0].message.content
        await until(lambda: log.read_text().count("Feedback recorded") == 6)
    finally:
        proxy.terminate()
        await proxy.wait()
    assert log.read_text().count("Conduit selected") == 6


async def ready(
    client: AsyncOpenAI, proxy: asyncio.subprocess.Process, within_s: float = 90
) -> None:
    """Wait until the proxy lists its models."""
    end = time.monotonic() + within_s
    while time.monotonic() < end and proxy.returncode is None:
        try:
            await client.models.list()
        except OpenAIError:
            await asyncio.sleep(0.3)
        else:
            return
    pytest.fail("the proxy did not start")
