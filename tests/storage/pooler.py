"""A transaction pooler, as hosted PostgreSQL has one: each transaction, another session."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

_SSL_REQUEST, _CANCEL_REQUEST = 80877103, 80877102
_ROUND_TRIP = {b"Q", b"S"}  # messages that the server answers with ReadyForQuery
_GOODBYE = b"X"


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the type of the next message, and all its bytes."""
    head = await reader.readexactly(5)
    (size,) = struct.unpack("!I", head[1:])
    return head[:1], head + await reader.readexactly(size - 4)


@dataclass
class _Session:
    """One session of the database, and what it said when it began."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: bytes = b""


@dataclass
class _Client:
    """One client, and the session that its open transaction has."""

    writer: asyncio.StreamWriter
    session: _Session | None = None
    due: int = 0  # answers that it waits for
    answers: asyncio.Task[None] | None = None


@dataclass
class TransactionPooler:
    """Listens on a loopback port; its sessions take turns, transaction by transaction."""

    url: str
    sessions: int = 3
    transactions: int = 0
    _free: asyncio.Queue[_Session] = field(default_factory=asyncio.Queue)
    _all: list[_Session] = field(default_factory=list)
    _listening: asyncio.Server | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Return the database's address through the pooler."""
        assert self._listening is not None
        port = self._listening.sockets[0].getsockname()[1]
        return f"postgresql://postgres@127.0.0.1:{port}{urlsplit(self.url).path}"

    async def __aenter__(self) -> Self:
        for _ in range(self.sessions):
            self._free.put_nowait(await self._connect())
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._listening is not None
        self._listening.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for session in self._all:
            session.writer.close()
            await asyncio.gather(session.writer.wait_closed(), return_exceptions=True)

    async def _connect(self) -> _Session:
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        given = {"user": "postgres", "database": parts.path[1:], "client_encoding": "UTF8"}
        words = b"".join(f"{k}\0{v}\0".encode() for k, v in given.items()) + b"\0"
        writer.write(struct.pack("!II", len(words) + 8, 196608) + words)
        session, kind = _Session(reader, writer), b""
        while kind != b"Z":
            kind, data = await _message(reader)
            session.greeting += data
        self._all.append(session)
        return session

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        client = _Client(writer)
        try:
            await self._greet(reader, writer)
            await self._carry(reader, client)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the pooler closes
        finally:
            await self._leave(client)
            self._serving.discard(task)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        code = _SSL_REQUEST
        while code == _SSL_REQUEST:
            (size,) = struct.unpack("!I", await reader.readexactly(4))
            (code,) = struct.unpack("!I", (await reader.readexactly(size - 4))[:4])
            if code == _CANCEL_REQUEST:
                raise ConnectionAbortedError
            writer.write(b"N" if code == _SSL_REQUEST else self._all[0].greeting)

    async def _carry(self, reader: asyncio.StreamReader, client: _Client) -> None:
        """Carry what a client says to a session, taking one for each transaction."""
        while True:
            kind, data = await _message(reader)
            if kind == _GOODBYE:
                return
            if client.session is None:
                client.session = await self._free.get()
                client.answers = asyncio.ensure_future(self._answer(client, client.session))
                self.transactions += 1
            client.due += kind in _ROUND_TRIP
            client.session.writer.write(data)

    async def _answer(self, client: _Client, session: _Session) -> None:
        """Carry answers until none is due and no transaction is open; then free the session."""
        while True:
            kind, data = await _message(session.reader)
            client.writer.write(data)
            client.due -= kind == b"Z"
            if kind == b"Z" and client.due == 0 and data[-1:] == b"I":
                client.session = None
                self._free.put_nowait(session)
                return

    async def _leave(self, client: _Client) -> None:
        """Close a client, and replace the session that it left in the middle."""
        if client.answers is not None:
            client.answers.cancel()
            await asyncio.gather(client.answers, return_exceptions=True)
        if client.session is not None:
            client.session.writer.close()
            self._free.put_nowait(await self._connect())
        client.writer.close()
