"""A provider of simulated models: a real HTTP server on loopback that speaks OpenAI's API.

    async with LocalProvider(models=[SimulatedModel("cheap", 0.1, 0.4, skill=0.6)]) as provider:
        client = AsyncOpenAI(base_url=provider.base_url, api_key="local")

`python -m conduit.testing.local_provider` serves in a process of its own and prints its URL first.
It answers chat and text completions, responses and embeddings. A request whose `Idempotency-Key` it
knows gets the same answer without being billed again, and the key comes back in a header. `GET
/control/requests` lists the ledger and `POST /control/fault` (`{"model": …, "fault": {"kind": …} or
null}`) sets a fault, for others than the process that serves.
"""

import argparse
import asyncio
import contextlib
import hmac
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Self, TypeVar

from conduit.core.errors import ConfigurationError, InvalidInput, unknown_name
from conduit.core.models import ModelArm
from conduit.testing.provider_answers import Ask, compose
from conduit.testing.provider_embeddings import embeddings_body
from conduit.testing.provider_faults import Cut, Fault, FaultKind, fault_from
from conduit.testing.provider_http import Connection, Request, Script, error_script, json_script
from conduit.testing.provider_ledger import Ledger, LedgerRow
from conduit.testing.provider_models import (
    SIMULATED_POOL,
    ActiveFault,
    SimulatedModel,
    chance_of,
    count_tokens,
    model_from,
)
from conduit.testing.provider_questions import (
    TOPICS,
    Question,
    prompt_id,
    provider_questions,
    recognise,
)
from conduit.testing.provider_scripts import Delivery
from conduit.testing.provider_wire import WIRES, Wire

__all__ = [
    "SIMULATED_POOL",
    "TOPICS",
    "Cut",
    "Fault",
    "FaultKind",
    "LedgerRow",
    "LocalProvider",
    "Question",
    "SimulatedModel",
    "arm_of",
    "count_tokens",
    "prompt_id",
    "provider_questions",
    "recognise",
]

T = TypeVar("T")

HOST = "127.0.0.1"
BACKLOG = 1_024
EMBEDDING_MODEL = SimulatedModel("text-embedding-3-small", input_usd_per_mtok=0.02)


REPUTATION_STEP = 0.05  # a public benchmark knows a model's mean skill about as coarsely


def arm_of(model: SimulatedModel, base_url: str | None = None) -> ModelArm:
    """Return a simulated model as a user would name it: price, reputation, and where it is."""
    mean = sum(chance_of(model.skill, topic) for topic in TOPICS) / len(TOPICS)
    return ModelArm(
        model.name,
        input_usd_per_mtok=model.input_usd_per_mtok,
        output_usd_per_mtok=model.output_usd_per_mtok,
        quality=round(round(mean / REPUTATION_STEP) * REPUTATION_STEP, 2),
        base_url=base_url,
    )


class LocalProvider:
    """Simulated models behind a real HTTP server, with a ledger of every request.

    Each answer depends on nothing but `seed`, the model and the conversation. With an `api_key`,
    requests that bring another one are refused.
    """

    def __init__(
        self,
        models: Sequence[SimulatedModel] = SIMULATED_POOL,
        *,
        seed: int = 0,
        api_key: str | None = None,
        port: int = 0,
    ) -> None:
        self._models = {model.name: model for model in models}
        if not models or len(self._models) != len(models):
            raise InvalidInput(
                "models must be at least one, each with its own name", field="models"
            )
        self._seed = seed
        self._key = None if api_key is None else f"Bearer {api_key}".encode()
        self._port = port
        self._ledger = Ledger()
        self._faults: dict[str, ActiveFault] = {}
        for model in models:
            self.set_fault(model.name, model.fault)
        self._wires = {wire.path: wire for wire in WIRES}
        self._connections: set[Connection] = set()
        self._kept: dict[str, tuple[bytes, int]] = {}  # idempotency key: request body, row
        self._failures: list[BaseException] = []
        self._server: asyncio.Server | None = None
        self._refusing: socket.socket | None = None

    def __repr__(self) -> str:
        where = self.base_url if self._server is not None else "not serving"
        return f"LocalProvider({', '.join(self._models)}; {where})"

    # Serving.

    async def __aenter__(self) -> Self:
        """Begin to serve."""
        if self._server is not None:
            raise ConfigurationError("this provider is serving already")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._serve, self._connections, self._failures.append),
            HOST,
            self._port,
            backlog=BACKLOG,
        )
        self._refusing = socket.socket()
        self._refusing.bind((HOST, 0))  # bound, so that nobody gets the port; never listening
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop: close every connection, and wait for what was being served."""
        assert self._server is not None
        assert self._refusing is not None
        self._server.close()
        self._refusing.close()
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        for connection in list(self._connections):
            connection.abort()  # which cancels what is being served
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports tell their connections
        await self._server.wait_closed()
        self._server = None
        if self._failures:
            raise BaseExceptionGroup("the provider failed while it served", self._failures)

    @contextlib.contextmanager
    def serve_in_thread(self) -> Iterator[Self]:
        """Serve from a thread with a loop of its own, and stop both at the end."""
        stop = _Stop()
        with ThreadPoolExecutor(1, thread_name_prefix="local-provider") as pool:
            serving = pool.submit(asyncio.run, _serve_until(self, stop))
            serving.add_done_callback(lambda _: stop.ready.set())
            stop.ready.wait()
            try:
                if not serving.done():
                    yield self
            finally:
                stop.set()
            serving.result()  # raises what went wrong in the thread

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            raise ConfigurationError("this provider is not serving: enter it first")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return f"http://{HOST}:{self.port}/v1"

    @property
    def arms(self) -> tuple[ModelArm, ...]:
        """The models as a router takes them: price, reputation, and where they are."""
        return tuple(arm_of(model, self.base_url) for model in self.models)

    @property
    def refused_url(self) -> str:
        """A base URL at which every connection is refused for as long as this provider serves."""
        if self._server is None or self._refusing is None:
            raise ConfigurationError("this provider is not serving: enter it first")
        return f"http://{HOST}:{self._refusing.getsockname()[1]}/v1"

    # What the test or the demo sees and changes.

    @property
    def models(self) -> tuple[SimulatedModel, ...]:
        """The models as they are now."""
        return tuple(self._models.values())

    @property
    def requests(self) -> list[LedgerRow]:
        """The ledger: a row for each request that named a model, in the order of their coming."""
        return self._ledger.rows

    @property
    def spent_usd(self) -> float:
        """What all requests cost so far."""
        return self._ledger.spent_usd

    @property
    def calls_by_model(self) -> dict[str, int]:
        """How many requests each model got."""
        return self._ledger.calls_by_model

    def set_fault(self, model: str, fault: Fault | None) -> None:
        """Let a model misbehave from its next request on, or behave again."""
        self._known(model)
        if fault is None:
            self._faults.pop(model, None)
        else:
            self._faults[model] = ActiveFault(fault, self._seed, model)

    def replace_model(self, model: SimulatedModel) -> None:
        """Let a model of the same name take over from the next request on: drift, or new prices."""
        self._known(model.name)
        self._models[model.name] = model
        self.set_fault(model.name, model.fault)

    def grade(self, prompt: str, answer: object) -> bool:
        """Whether an answer to a prompt is right, bare or inside a sentence or an object."""
        return recognise(prompt).grade(answer)

    def _known(self, model: str) -> None:
        if model not in self._models:
            message = unknown_name("model", model, tuple(self._models))
            raise InvalidInput(message, field="model", value=model)

    # One request.

    async def _serve(self, request: Request, connection: Connection) -> None:
        """Serve one request."""
        wire = self._wires.get(_path(request))
        if wire is not None and request.method == "POST":
            await self._complete(wire, request, connection)
        else:
            await connection.play(self._simple(request))

    async def _complete(self, wire: Wire, request: Request, connection: Connection) -> None:
        """Answer a completion request, and keep its row true whatever happens to it."""
        parsed = _parsed(request, wire.parse)
        if isinstance(parsed, Script):
            return await connection.play(parsed)
        key = request.headers.get("idempotency-key")
        kept = None if key is None else self._kept.get(key)
        if kept is not None:
            return await self._again(wire, request, parsed, kept, connection)
        at = self._ledger.open(
            wire.path, parsed, has_authorization="authorization" in request.headers
        )
        refusal = self._refusal(request, parsed.model)
        if refusal is not None:
            self._ledger.close(at, status=refusal.status)
            return await connection.play(refusal)
        active = self._faults.get(parsed.model)
        fault = None if active is None else active.strikes()
        if key is not None and fault is None:
            self._kept[key] = request.body, at
        await self._answer(wire, parsed, at, connection, fault, key)

    async def _again(
        self,
        wire: Wire,
        request: Request,
        ask: Ask,
        kept: tuple[bytes, int],
        connection: Connection,
    ) -> None:
        """Answer what was asked under the same key before, in the same row: it is billed once."""
        body, at = kept
        if body != request.body:
            message = "This idempotency key belongs to another request"
            script = error_script(422, "invalid_request_error", "idempotency_key_reused", message)
            return await connection.play(script)
        await self._answer(wire, ask, at, connection, None, request.headers["idempotency-key"])

    async def _answer(
        self,
        wire: Wire,
        ask: Ask,
        at: int,
        connection: Connection,
        fault: Fault | None,
        key: str | None,
    ) -> None:
        model = self._models[ask.model]
        said = compose(model, ask, self._seed)
        self._ledger.answered(at, said, fault)
        script = Delivery(wire, model, ask, said, self._ledger[at].id, fault, key).script()
        began = time.monotonic()
        tokens = 0
        try:
            await connection.play(script)
            tokens = said.output_tokens
        except asyncio.CancelledError:
            tokens = model.tokens_by(time.monotonic() - began, said.output_tokens)
            raise
        finally:
            is_billed = fault is None or fault.is_billed
            counts = (ask.input_tokens, tokens) if is_billed else (0, 0)
            self._ledger.close(
                at,
                status=script.status if connection.has_answered else None,
                input_tokens=counts[0],
                output_tokens=counts[1],
                usd=model.usd(*counts),
                client_disconnected_at=connection.left_at,
            )

    def _refusal(self, request: Request, model: str) -> Script | None:
        """Return why a request is not answered, or None."""
        if not self._is_allowed(request):
            message = "Incorrect API key provided"
            return error_script(401, "invalid_request_error", "invalid_api_key", message)
        if model not in self._models:
            message = f"The model {model!r} does not exist"
            return error_script(404, "invalid_request_error", "model_not_found", message)
        return None

    def _is_allowed(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").encode("latin-1")
        return self._key is None or hmac.compare_digest(given, self._key)

    def _simple(self, request: Request) -> Script:
        """Answer what is no completion: at once, and free of charge but for embeddings."""
        routes: dict[tuple[str, str], Callable[[Request], Script]] = {
            ("GET", "/v1/models"): self._list_models,
            ("POST", "/v1/embeddings"): self._embed,
            ("GET", "/control/requests"): self._list_requests,
            ("POST", "/control/fault"): self._take_fault,
        }
        path = _path(request)
        if not self._is_allowed(request):
            return error_script(
                401, "invalid_request_error", "invalid_api_key", "Incorrect API key"
            )
        route = routes.get((request.method, path))
        if route is not None:
            return route(request)
        if request.method == "GET" and path.startswith("/v1/models/"):
            return self._show_model(path.removeprefix("/v1/models/"))
        known = {*self._wires, *(path for _, path in routes)}
        status = 405 if path in known else 404
        return error_script(status, "invalid_request_error", None, "There is no such endpoint")

    def _list_models(self, _: Request) -> Script:
        listed = [_model_object(name) for name in (*self._models, EMBEDDING_MODEL.name)]
        return json_script(200, {"object": "list", "data": listed})

    def _show_model(self, name: str) -> Script:
        if name not in (*self._models, EMBEDDING_MODEL.name):
            message = f"The model {name!r} does not exist"
            return error_script(404, "invalid_request_error", "model_not_found", message)
        return json_script(200, _model_object(name))

    def _embed(self, request: Request) -> Script:
        model = EMBEDDING_MODEL

        def read(body: Mapping[str, Any]) -> tuple[str, dict[str, Any], int]:
            return (str(body["model"]), *embeddings_body(body, str(body["model"])))

        parsed = _parsed(request, read)
        if isinstance(parsed, Script):
            return parsed
        name, body, tokens = parsed
        if name not in (*self._models, model.name):
            return self._show_model(name)
        ask = Ask(model=name, prompt="", input_tokens=tokens)
        has_key = "authorization" in request.headers
        at = self._ledger.open("/v1/embeddings", ask, has_authorization=has_key)
        usd = self._models.get(name, model).usd(tokens, 0)
        self._ledger.close(at, status=200, input_tokens=tokens, usd=usd)
        return json_script(200, body)

    def _list_requests(self, _: Request) -> Script:
        return json_script(200, [asdict(row) for row in self.requests])

    def _take_fault(self, request: Request) -> Script:
        def read(body: Mapping[str, Any]) -> None:
            self.set_fault(body["model"], fault_from(body["fault"]))

        parsed = _parsed(request, read)
        return parsed if isinstance(parsed, Script) else json_script(200, {"status": "ok"})


class _Stop:
    """How the owner of a serving thread and the thread's loop tell each other when."""

    def __init__(self) -> None:
        self.ready = threading.Event()  # serving has begun, or failed to
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def wait(self) -> None:
        """Say that serving has begun, and return when it shall end."""
        self._loop = asyncio.get_running_loop()
        self.ready.set()
        await self._stopping.wait()

    def set(self) -> None:
        """Ask the thread to end; nothing happens if its loop has ended already."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stopping.set)


async def _serve_until(provider: LocalProvider, stop: _Stop) -> None:
    async with provider:
        await stop.wait()


def _path(request: Request) -> str:
    """Return the path of a request with `/v1` before it, as a base URL may leave it out."""
    path = request.path.rstrip("/")
    return path if path.startswith(("/v1/", "/control/")) else f"/v1{path}"


def _parsed(request: Request, read: Callable[[Mapping[str, Any]], T]) -> T | Script:
    """Return what a JSON body means, or the script that says it means nothing."""
    try:
        return read(json.loads(request.body))
    except (ValueError, TypeError, KeyError, AttributeError, ConfigurationError) as error:
        message = f"could not read the request: {type(error).__name__}: {error}"
        return error_script(400, "invalid_request_error", None, message)


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "conduit"}


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m conduit.testing.local_provider",
        description="Serve simulated models over OpenAI's API on loopback; print the URL first.",
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", help="a JSON list of SimulatedModel's fields")
    return parser.parse_args(arguments)


async def _run(provider: LocalProvider) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    async with provider:
        sys.stdout.write(f"{provider.base_url}\n")
        sys.stdout.flush()
        await stopping.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve in this process until it is told to end."""
    given = _arguments(arguments)
    models = SIMULATED_POOL
    if given.models is not None:
        models = tuple(map(model_from, json.loads(given.models)))
    asyncio.run(_run(LocalProvider(models, seed=given.seed, port=given.port)))


if __name__ == "__main__":
    main()
