"""A small HTTP/1.1 server side: requests in, timed bytes out, and notice of who left."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from conduit.testing.provider_wire import error_body

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 32 * 1024 * 1024
CUT_PAUSE_S = 0.02  # lets the client read what was sent before the connection breaks
LAST_CHUNK = b"0\r\n\r\n"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Ending(StrEnum):
    """What happens to the connection after the last byte of a script."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes, and how long to wait before they are sent."""

    data: bytes
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that a client gets for one request, and when."""

    status: int | None  # None: no status line is ever sent
    steps: tuple[Step, ...] = ()
    ending: Ending = Ending.KEEP


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read whole."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)  # they hold the key
    body: bytes = field(repr=False)
    keeps_alive: bool = True


class BadRequest(Exception):
    """Bytes that are no request that this server can read."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the status to answer with."""
        super().__init__(message)
        self.status = status


def head_bytes(status: int, headers: Mapping[str, str]) -> bytes:
    """Return a status line with headers and the empty line after them."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reason = _REASONS.get(status, "Unknown")
    return f"HTTP/1.1 {status} {reason}\r\nDate: {_date()}\r\n{lines}\r\n".encode("latin-1")


def whole_bytes(
    status: int,
    body: bytes,
    content_type: str = "application/json",
    extra: Mapping[str, str] | None = None,
) -> bytes:
    """Return a complete response with a body of known length."""
    headers = {"Content-Type": content_type, "Content-Length": str(len(body)), **(extra or {})}
    return head_bytes(status, headers) + body


def json_script(status: int, body: object, extra: Mapping[str, str] | None = None) -> Script:
    """Return a script that answers at once with JSON."""
    data = json.dumps(body, separators=(",", ":")).encode()
    return Script(status, (Step(whole_bytes(status, data, extra=extra)),))


def error_script(status: int, kind: str, code: str | None, message: str) -> Script:
    """Return a script that answers at once with an error in OpenAI's shape."""
    return json_script(status, error_body(kind, code, message))


def chunk_bytes(data: bytes) -> bytes:
    """Return data as one chunk of a body of unknown length."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


_dates: dict[int, str] = {}


def _date() -> str:
    """Return the date header's value, made once a second."""
    second = int(time.time())
    if second not in _dates:
        _dates.clear()
        _dates[second] = formatdate(second, usegmt=True)
    return _dates[second]


Serve = Callable[[Request, "Connection"], Coroutine[Any, Any, None]]


class Connection(asyncio.Protocol):
    """One client: its requests are served in turn, and its leaving cancels what is served."""

    def __init__(
        self,
        serve: Serve,
        connections: set["Connection"],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._serve = serve
        self._failed = failed
        self._connections = connections
        self._buffer = bytearray()
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._body_at = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._closed_here = False
        self.task: asyncio.Task[None] | None = None
        self.has_answered = False  # the first byte for the present request is out
        self.left_at: float | None = None  # when the client closed or reset the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Add to what was received; serve the next request once it is complete."""
        self._buffer += data
        if self.task is None:
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note when the client left and stop what was being done for it."""
        self.left_at = None if self._closed_here else time.time()
        self._writable.set()
        if self.task is not None:
            self.task.cancel()
        else:
            self._connections.discard(self)

    def pause_writing(self) -> None:
        """Wait with writing: the client reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on writing."""
        self._writable.set()

    async def play(self, script: Script) -> None:
        """Send a script, and end as it says; a script that hangs ends when the client leaves."""
        self.has_answered = False
        for step in script.steps:
            if step.delay_s > 0.0:
                await asyncio.sleep(step.delay_s)
            self._write(step.data)
            self.has_answered = True
            if not self._writable.is_set():
                await self._writable.wait()
        if script.ending is Ending.HANG:
            await asyncio.get_running_loop().create_future()
        elif script.ending is not Ending.KEEP:
            await asyncio.sleep(CUT_PAUSE_S if script.steps else 0.0)
            self.close(reset=script.ending is Ending.RESET)

    def close(self, *, reset: bool = False) -> None:
        """Close the connection, politely or with a reset."""
        self._closed_here = True
        if self._transport is None:
            return
        if reset:
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection now, unsent bytes included."""
        self._closed_here = True
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _advance(self) -> None:
        """Start serving the next request, if it has arrived whole."""
        try:
            request = self._next_request()
        except BadRequest as error:
            script = error_script(error.status, "invalid_request_error", None, str(error))
            self._write(script.steps[0].data)
            self.close()
            return
        if request is None:
            return
        self.task = asyncio.get_running_loop().create_task(self._serve(request, self))
        self.task.add_done_callback(lambda task: self._served(request, task))

    def _served(self, request: Request, task: asyncio.Task[None]) -> None:
        """Go on with the next request, or let the connection go."""
        self.task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a defect of this server: whoever owns it is told
            self._failed(error)
            self.abort()
        if self._transport is None or self._transport.is_closing():
            self._connections.discard(self)
        elif not request.keeps_alive:
            self.close()
        else:
            self._advance()

    def _next_request(self) -> Request | None:
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    raise BadRequest(431, "the headers are too large")
                return None
            self._head = _parsed_head(bytes(self._buffer[:end]))
            self._body_at = end + 4
            if self._head[2].get("expect", "").lower() == "100-continue":
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        method, path, headers = self._head
        end = self._body_at + int(headers.get("content-length", "0"))
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[self._body_at : end])
        del self._buffer[:end]
        self._head = None
        return Request(method, path, headers, body, headers["connection"] != "close")


def _parsed_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Return method, path and headers; `connection` is always among them."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest(400, "not an HTTP/1.1 request line")
    headers = {"connection": "close" if parts[2] == "HTTP/1.0" else "keep-alive"}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(400, "not a header line")
        headers[name.lower()] = value.strip()
    headers["connection"] = headers["connection"].lower()
    if "transfer-encoding" in headers:
        raise BadRequest(411, "send a Content-Length")
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise BadRequest(400, "Content-Length is not a number")
    if int(length) > MAX_BODY_BYTES:
        raise BadRequest(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes")
    return parts[0], parts[1].partition("?")[0], headers
