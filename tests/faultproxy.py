"""A TCP proxy on loopback that makes a network fail in chosen ways, switchable while it runs.

```python
async with FaultProxy("127.0.0.1", server.port) as proxy:
    client = connect(port=proxy.port)
    await proxy.set(Faults(latency_s=0.2))   # from here on; connections stay
    await proxy.set(Faults(blackhole=True))  # bytes wait, as in a partition
    await proxy.set(Faults())                # healthy: what waited goes on
```
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 65_536
SLICE_GAP_S = 0.002  # so that the receiver sees slices, which the kernel would join otherwise
# SO_LINGER with a time of zero: closing sends RST and drops what was not sent.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong between client and server; the default is nothing."""

    latency_s: float = 0.0  # every chunk waits this long, in each direction
    slice_bytes: int | None = None  # no write is longer than this
    corrupt: float = 0.0  # each byte from the server is changed with this probability
    blackhole: bool = False  # connections open and bytes leave, and nothing arrives until it ends
    reset: bool = False  # every connection, old or new, ends with RST
    hide_end: bool = False  # that one side closed is not passed on, as where a NAT forgot the flow
    refuse: bool = False  # nobody listens: new connections are refused, old ones go on


class FaultProxy:
    """Forwards TCP connections to one server, with the faults set at the moment."""

    def __init__(self, host: str, port: int, *, faults: Faults = Faults(), seed: int = 0) -> None:
        self._upstream = (host, port)
        self._faults = faults
        self._chance = random.Random(seed)
        self._healed = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self.port = 0
        self.accepted = 0

    @property
    def live(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def url(self, server_url: str) -> str:
        """Return a server's address with the proxy's host and port in place of its own."""
        parts = urlsplit(server_url)
        account = parts.netloc.rpartition("@")
        netloc = f"{account[0]}{account[1]}127.0.0.1:{self.port}"
        return urlunsplit(parts._replace(netloc=netloc))

    async def set(self, faults: Faults) -> None:
        """Switch to other faults; the open connections feel them at once."""
        self._faults = faults
        self._healed.set() if not faults.blackhole else self._healed.clear()
        if faults.refuse:
            await self._stop_listening()
        elif self._listener is None:
            await self._listen()
        if faults.reset:
            await self._drop_connections()

    async def __aenter__(self) -> Self:
        await self._listen()
        await self.set(self._faults)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stop_listening()
        await self._drop_connections()

    async def _listen(self) -> None:
        """Listen; on the same port as before when there was one."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        """Close the listening socket and leave the open connections alone."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _drop_connections(self) -> None:
        """End every open connection with RST and wait for the tasks that served them."""
        tasks = list(self._connections)
        for writer in [writer for ends in self._connections.values() for writer in ends]:
            _reset(writer)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until either end closes."""
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        ends = self._connections[task] = [writer]
        try:
            # A cancellation is the proxy dropping this connection; asyncio's server would log it.
            with contextlib.suppress(asyncio.CancelledError):
                await self._serve(reader, writer, ends)
        except* OSError:
            _reset(writer)  # the server is away, or one end broke off
        finally:
            del self._connections[task]
            for end in ends:
                end.close()

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ends: list[asyncio.StreamWriter],
    ) -> None:
        """Connect one client to the server and carry both directions."""
        if self._faults.reset:
            _reset(writer)
            return
        await self._healed.wait()
        up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        ends.append(up_writer)
        async with asyncio.TaskGroup() as directions:
            directions.create_task(self._pump(reader, up_writer, corruptible=False))
            directions.create_task(self._pump(up_reader, writer, corruptible=True))

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, corruptible: bool
    ) -> None:
        """Carry one direction of a connection to its end."""
        while chunk := await source.read(CHUNK_BYTES):
            await asyncio.sleep(self._faults.latency_s)
            await self._healed.wait()
            for piece in self._pieces(self._corrupted(chunk) if corruptible else chunk):
                sink.write(piece)
                await sink.drain()
                await asyncio.sleep(SLICE_GAP_S if self._faults.slice_bytes else 0)
        if self._faults.hide_end:
            await asyncio.get_running_loop().create_future()  # until the proxy drops the connection
        with contextlib.suppress(OSError):  # the other side may have closed both ways
            sink.write_eof()

    def _pieces(self, chunk: bytes) -> list[bytes]:
        """Cut a chunk as the slicing fault says."""
        size = self._faults.slice_bytes or len(chunk)
        return [chunk[start : start + size] for start in range(0, len(chunk), size)]

    def _corrupted(self, chunk: bytes) -> bytes:
        """Change bytes at random as the corruption fault says; a changed byte always differs."""
        rate = self._faults.corrupt
        if not rate:
            return chunk
        changes = (
            self._chance.randrange(1, 256) if self._chance.random() < rate else 0 for _ in chunk
        )
        return bytes(byte ^ change for byte, change in zip(chunk, changes, strict=True))


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that its peer sees RST instead of an orderly end."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
