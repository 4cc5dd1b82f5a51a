"""The server itself: HTTP as it comes, threads, processes and ends."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import openai
import psutil
import pytest
from openai import AsyncOpenAI

from conduit.core.errors import ConfigurationError, InvalidInput
from conduit.testing.local_provider import (
    Fault,
    FaultKind,
    LocalProvider,
    SimulatedModel,
)
from tests.testing.provider_clients import MODELS, client_of, said, until


@pytest.fixture
async def provider() -> AsyncIterator[LocalProvider]:
    """Serve the models above."""
    async with LocalProvider(MODELS, seed=1) as provider:
        yield provider


@pytest.fixture
async def client(provider: LocalProvider) -> AsyncIterator[AsyncOpenAI]:
    """Return the real client, without retries."""
    async with client_of(provider.base_url) as client:
        yield client


def raw(provider: LocalProvider, *parts: bytes) -> bytes:
    """Send bytes as they are, and return everything until the server closes."""
    with socket.create_connection(("127.0.0.1", provider.port), timeout=10.0) as sock:
        for part in parts:
            sock.sendall(part)
            time.sleep(0.01 if len(parts) > 1 else 0.0)
        received = b""
        while data := sock.recv(65_536):
            received += data
    return received


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
        (b"GET /models?limit=3 HTTP/1.0\r\n\r\n", 200),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
        (b"GET /v1/nothing HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (b"DELETE /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n", 405),
        (b"GET /v1/chat/completions HTTP/1.1\r\nConnection: close\r\n\r\n", 405),
    ],
)
async def test_requests_of_every_kind_get_an_answer(
    provider: LocalProvider, request_bytes: bytes, status: int
) -> None:
    """Well or badly formed, each gets a status and JSON, and the connection ends."""
    received = await asyncio.to_thread(raw, provider, request_bytes)
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"application/json" in received


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"model": "good"}',
        b'{"model": 3, "messages": []}',
        b'{"model": "good", "messages": "hello"}',
        b'{"model": "good", "messages": [{"role": "king", "content": "x"}]}',
        b'{"model": "good", "messages": [{"role": "user", "content": 7}]}',
        b'{"model": "good", "messages": [], "max_tokens": -1}',
        b'{"model": "good", "messages": [], "tools": [{"type": "function"}]}',
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
async def test_bodies_that_mean_nothing_are_refused(
    provider: LocalProvider, path: str, body: bytes
) -> None:
    """A malformed body is a 400 in OpenAI's shape, and nothing is entered in the books."""
    async with httpx.AsyncClient(base_url=provider.base_url[:-3], verify=False) as client:
        response = await client.post(path, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert provider.requests == []


@pytest.mark.parametrize(
    ("given", "embedded"),
    [("one", 1), (["one", "two"], 2), ([7, 8, 9], 1), ([[7, 8], [9]], 2)],
)
async def test_texts_and_tokens_are_embedded(
    client: AsyncOpenAI, given: str | list[str] | list[int] | list[list[int]], embedded: int
) -> None:
    """Whatever OpenAI embeds is embedded: a text or tokens, one or several."""
    made = await client.embeddings.create(model="good", input=given)
    assert len(made.data) == embedded


@pytest.mark.parametrize("given", [[], [[]], [["one"]], ["one", 2], 3])
async def test_what_cannot_be_embedded_is_refused(client: AsyncOpenAI, given: object) -> None:
    """Anything else is refused."""
    with pytest.raises(openai.BadRequestError):
        await client.embeddings.create(model="good", input=given)  # type: ignore[arg-type]


async def test_an_unknown_model_is_not_found(provider: LocalProvider, client: AsyncOpenAI) -> None:
    """A model that is not simulated is a 404 in OpenAI's shape."""
    with pytest.raises(openai.NotFoundError) as caught:
        await said(client, "Hello", "absent")
    assert caught.value.code == "model_not_found"
    assert provider.requests[0].usd == 0.0


async def test_a_connection_serves_many_requests_split_or_joined(provider: LocalProvider) -> None:
    """Requests in one packet and in many are answered in turn on one connection."""
    one = b"GET /v1/models/good HTTP/1.1\r\nHost: x\r\n\r\n"
    last = one.replace(b"Host: x", b"Connection: close")
    received = await asyncio.to_thread(
        raw, provider, one + one + one[:9], one[9:-2], one[-2:] + last
    )
    assert received.count(b"HTTP/1.1 200 OK") == 4


async def test_bodies_of_megabytes_are_read(provider: LocalProvider, client: AsyncOpenAI) -> None:
    """A prompt of 4 MB is answered, counted and billed."""
    answer = await said(client, "word " * 800_000 + "[[marker:end]]")
    assert answer.endswith("[[marker:end]]")
    assert provider.requests[0].input_tokens > 1_000_000


async def test_a_client_may_wait_for_permission_to_send_its_body(provider: LocalProvider) -> None:
    """`Expect: 100-continue` is answered before the body is sent, as curl wants it."""
    body = b'{"model": "good", "messages": [{"role": "user", "content": "What is 2 + 3?"}]}'
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    received = await asyncio.to_thread(raw, provider, head, body)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


def sockets_of_this_process() -> int:
    """Count the open sockets."""
    return len(psutil.Process().net_connections())


@pytest.mark.parametrize("hanging", [0, 20])
async def test_leaving_leaves_nothing_behind(hanging: int) -> None:
    """No task and no socket is left, also when requests were under way; clients see the end."""
    tasks, sockets = len(asyncio.all_tasks()), sockets_of_this_process()
    async with LocalProvider(MODELS) as provider:
        provider.set_fault("good", Fault(FaultKind.HANG))
        client = client_of(provider.base_url)
        calls = [asyncio.create_task(said(client, "Hello")) for _ in range(hanging)]
        assert await until(lambda: len(provider.requests) == hanging)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    await client.close()
    assert all(isinstance(outcome, openai.APIConnectionError) for outcome in outcomes)
    assert all(row.finished_at is not None for row in provider.requests)
    assert (len(asyncio.all_tasks()), sockets_of_this_process()) == (tasks, sockets)
    with pytest.raises(ConfigurationError):
        _ = provider.base_url


def test_a_thread_serves_and_ends() -> None:
    """A synchronous caller gets answers, and afterwards no thread and no socket are left."""
    threads, sockets = threading.active_count(), sockets_of_this_process()
    with LocalProvider(MODELS).serve_in_thread() as provider:
        assert threading.active_count() == threads + 1
        with openai.OpenAI(base_url=provider.base_url, api_key="local") as client:
            answer = client.chat.completions.create(
                model="good", messages=[{"role": "user", "content": "What is 2 + 3?"}]
            )
        assert answer.choices[0].message.content == "5"
        provider.set_fault("good", Fault(FaultKind.SERVER_ERROR))
    assert provider.calls_by_model == {"good": 1}
    assert (threading.active_count(), sockets_of_this_process()) == (threads, sockets)


def test_a_thread_that_cannot_serve_says_why() -> None:
    """A port that is taken is an error for the caller, not a thread that is silent."""
    with LocalProvider(MODELS).serve_in_thread() as first:
        second = LocalProvider(MODELS, port=first.port)
        with pytest.raises(OSError, match="in use"), second.serve_in_thread():
            pass
    assert not [t for t in threading.enumerate() if t.name.startswith("local-provider")]


def test_an_error_of_the_owner_ends_the_thread() -> None:
    """What the owner raises reaches the caller, after the thread has ended."""
    with pytest.raises(KeyError), LocalProvider(MODELS).serve_in_thread():
        raise KeyError("mine")
    assert not [t for t in threading.enumerate() if t.name.startswith("local-provider")]


@contextlib.contextmanager
def serving_process(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Start a provider in a process of its own, and yield it with its URL."""
    command = [sys.executable, "-W", "error", "-m", "conduit.testing.local_provider", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(10.0)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_process_serves_and_ends(end: signal.Signals) -> None:
    """`python -m` prints its URL, serves the models it was given, and ends cleanly on a signal."""
    models = '[{"name": "solo", "output_usd_per_mtok": 3.0, "skill": {"*": 1.0}, "fault": null}]'
    with serving_process("--models", models, "--seed", "4") as (process, url):
        with openai.OpenAI(base_url=url, api_key="local") as client:
            assert next(model.id for model in client.models.list()) == "solo"
            answer = client.chat.completions.create(
                model="solo", messages=[{"role": "user", "content": "What is 2 + 3?"}]
            )
        assert answer.choices[0].message.content == "5"
        process.send_signal(end)
        assert process.wait(10.0) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    "broken",
    [
        lambda: LocalProvider([]),
        lambda: LocalProvider([SimulatedModel("a"), SimulatedModel("a")]),
        lambda: LocalProvider(MODELS).set_fault("goood", None),
        lambda: LocalProvider(MODELS).replace_model(SimulatedModel("new")),
        lambda: SimulatedModel("a", skill=1.2),
        lambda: SimulatedModel("a", skill={"units": -0.1}),
        lambda: SimulatedModel("a", input_usd_per_mtok=float("nan")),
        lambda: SimulatedModel("a", tokens_per_s=0.0),
        lambda: SimulatedModel("a", output_tokens=(9, 3)),
        lambda: SimulatedModel(""),
    ],
)
def test_settings_that_mean_nothing_are_refused(broken: Callable[[], object]) -> None:
    """Impossible models and unknown names are errors at once."""
    with pytest.raises(InvalidInput):
        broken()


async def test_a_client_that_reads_slowly_gets_everything() -> None:
    """An answer larger than the socket's buffers waits for its reader and arrives whole."""
    text = "x" * 6_000_000
    async with LocalProvider([SimulatedModel("m", responder=lambda _: text)]) as provider:
        body = b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n"
        received = await asyncio.to_thread(raw, provider, head % len(body), b"\r\n", body)
    assert received.count(b"x" * 1_000) == 6_000
    assert provider.requests[0].status == 200


async def test_a_defect_of_a_responder_is_raised_at_the_end() -> None:
    """The client sees a broken connection, and the owner what broke it."""

    def broken(_: str) -> str:
        raise ZeroDivisionError

    provider = LocalProvider([SimulatedModel("m", responder=broken)])
    with pytest.raises(ExceptionGroup) as caught:
        await _ask_once(provider)
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


async def _ask_once(provider: LocalProvider) -> None:
    async with provider, client_of(provider.base_url) as client:
        with pytest.raises(openai.APIConnectionError):
            await said(client, "Hi", "m")


async def test_a_provider_serves_once_at_a_time() -> None:
    """Entering it twice is an error; without serving it has no URL; later it serves again."""
    provider = LocalProvider(MODELS)
    for _ in range(2):
        async with provider:
            with pytest.raises(ConfigurationError):
                await provider.__aenter__()
            assert provider.base_url != provider.refused_url
        for name in ("base_url", "refused_url", "port"):
            with pytest.raises(ConfigurationError):
                getattr(provider, name)
        assert "not serving" in repr(provider)
