"""Every kind of call is decided by its text, served and credited, however it is made."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from litellm import Router

from conduit.testing.local_provider import LocalProvider
from conduit_litellm import ConduitRoutingStrategy
from tests.litellm.conftest import Deploy, ask, credited, until

TEXT = "How many inches are in 3 feet?"
TOOL = {
    "type": "function",
    "function": {
        "name": "convert",
        "description": "Convert a length.",
        "parameters": {"type": "object", "properties": {"feet": {"type": "number"}}},
    },
}
IMAGE = {"created": 1, "data": [{"b64_json": "AAAA"}]}


@pytest.fixture
def painter() -> Iterator[str]:
    """Give the address of a server that answers every request for an image."""

    class Painter(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(IMAGE).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Painter) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


# By kind: the group, LiteLLM's asynchronous and synchronous method, and what is asked.
KINDS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "chat": ("chat", "acompletion", "completion", {"messages": ask(TEXT)}),
    "stream": ("chat", "acompletion", "completion", {"messages": ask(TEXT), "stream": True}),
    "tools": ("chat", "acompletion", "completion", {"messages": ask(TEXT), "tools": [TOOL]}),
    "text": ("chat", "atext_completion", "text_completion", {"prompt": TEXT}),
    "instruct": ("instruct", "atext_completion", "text_completion", {"prompt": TEXT}),
    "embedding": ("embed", "aembedding", "embedding", {"input": [TEXT]}),
    "image": ("paint", "aimage_generation", "image_generation", {"prompt": TEXT}),
}


async def asynchronous(router: Router, kind: str) -> Any:
    """Ask in the running loop."""
    group, method, _, asked = KINDS[kind]
    response = await getattr(router, method)(model=group, **asked)
    if kind == "stream":
        assert [chunk async for chunk in response]
    return response


def synchronous(router: Router, kind: str) -> Any:
    """Ask without a loop, or while one is running that waits for it."""
    group, _, method, asked = KINDS[kind]
    response = getattr(router, method)(model=group, **asked)
    if kind == "stream":
        assert list(response)
    return response


async def inside_a_running_loop(router: Router, kind: str) -> Any:
    """Ask synchronously, in the thread of a running loop."""
    return synchronous(router, kind)


async def in_a_thread(router: Router, kind: str) -> Any:
    """Ask synchronously, in a thread beside a running loop."""
    with ThreadPoolExecutor(1) as threads:
        return await asyncio.get_running_loop().run_in_executor(threads, synchronous, router, kind)


def of_text(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a deployment that is asked for text completions, not for chats."""
    params = entry["litellm_params"]
    name = params["model"].replace("openai/", "text-completion-openai/")
    return entry | {"litellm_params": params | {"model": name}}


WAYS = [
    (how, kind)
    for how in (asynchronous, inside_a_running_loop, in_a_thread)
    for kind in KINDS
    # LiteLLM's own router.text_completion sends the group's name as the model's, without us too.
    if how is asynchronous or kind not in ("text", "instruct")
]


@pytest.mark.parametrize(("how", "kind"), WAYS)
async def test_every_kind_of_call_is_routed_and_credited(
    threaded_provider: LocalProvider,
    painter: str,
    deploy: Deploy,
    how: Callable[[Router, str], Any],
    kind: str,
) -> None:
    """The decision is about the text of the call, its response names it, its answer is credited."""
    if kind == "tools":
        pytest.importorskip("mcp", reason="LiteLLM calls tools through the package `mcp`")
    models = [
        deploy("chat", "gpt-4o", "a"),
        deploy("chat", "gpt-4o-mini", "b"),
        deploy("embed", "text-embedding-3-small", "e1"),
        deploy("embed", "text-embedding-3-small", "e2"),
        of_text(deploy("instruct", "gpt-4o", "t1")),
        of_text(deploy("instruct", "gpt-4o-mini", "t2")),
        deploy("paint", "dall-e-3", "p1", api_base=painter),
        deploy("paint", "dall-e-3", "p2", api_base=painter),
    ]
    router = Router(model_list=models, num_retries=0)
    with ConduitRoutingStrategy.setup_strategy(router) as strategy:
        response = await how(router, kind)
        decision = response._hidden_params["conduit_decision_id"]
        assert strategy._trips[decision].text == TEXT
        if kind == "instruct":  # the others are answered by LiteLLM's chat, whatever they ask for
            assert [row.path for row in threaded_provider.requests] == ["/v1/completions"]
        assert strategy.decision(response).selected_model in {
            entry["model_info"]["id"] for entry in models if entry["model_name"] == KINDS[kind][0]
        }
        await until(lambda: credited(strategy) == 1)
        assert strategy.stats().fallbacks == 0
