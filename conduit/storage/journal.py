"""A bounded local file that keeps feedback while the database is away.

A line is a checksum and a JSON value. `append` returns after fsync, so what it took survives a
kill and a power cut; a last line that was torn by one is skipped. Each process writes a file of its
own and holds a lock on it; the files of dead processes are adopted by whoever locks them first.
"""

from __future__ import annotations

import os
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Self

from conduit.core.errors import StorageUnavailable
from conduit.storage.ports import new_id

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _locked(file: FileIO) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _locked(file: FileIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


MAX_BYTES = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024


class Journal:
    """The journal of one process, for one database, in a directory that processes may share.

    Its methods block and may be called from any thread.
    """

    def __init__(self, directory: Path, database: str, *, max_bytes: int = MAX_BYTES) -> None:
        """Choose file names by `database`, which names it without secrets; open nothing yet."""
        self._directory = directory
        self._prefix = f"{zlib.crc32(database.encode()):08x}-"
        self._max_bytes = max_bytes
        self._own: _File | None = None
        self._adopted: list[_File] = []
        self._peeked: _File | None = None
        self._closed = False
        self._lock = threading.Lock()

    def append(self, lines: Sequence[str]) -> None:
        """Return once every line is on the disk; raise StorageUnavailable when that cannot be."""
        data = b"".join(map(_encoded, lines))
        with self._lock:
            if self._closed:
                raise StorageUnavailable("the database is away and the journal is closed")
            try:
                if self._own is None:
                    self._own = _File.create(self._directory, self._prefix)
                if self._own.size + len(data) > self._max_bytes:
                    raise StorageUnavailable("the database is away and the local journal is full")
                self._own.append(data, len(lines))
            except OSError as error:
                raise StorageUnavailable(
                    f"the database is away and the journal cannot be written ({error.strerror})"
                ) from error

    def adopt(self) -> None:
        """Take over the files of processes that are gone; once closed, leave them to others."""
        with self._lock:
            if self._closed:  # whoever asked was cancelled while its thread waited to begin
                return
            mine = {f.path for f in self._files()}
            for path in sorted(self._directory.glob(f"{self._prefix}*.journal")):
                if path not in mine and (file := _File.adopt(path)) is not None:
                    self._adopted.append(file)

    @property
    def depth(self) -> int:
        """Return how many lines wait."""
        return sum(f.waiting for f in self._files())

    def peek(self, limit: int) -> list[str]:
        """Return the oldest waiting lines of one file; the same ones until `drop`."""
        with self._lock:
            for file in self._files():
                self._peeked = file
                if lines := file.peek(limit):
                    return lines
            return []

    def drop(self) -> None:
        """Remove what the last `peek` returned; it is in the database now."""
        with self._lock:
            if self._peeked is not None:
                self._peeked.drop()
            for file in [f for f in self._adopted if not f.waiting]:
                file.remove()
                self._adopted.remove(file)
            self._peeked = None

    def close(self) -> None:
        """Unlock the files; empty ones go, the others wait for the next process."""
        with self._lock:
            for file in self._files():
                if file.waiting:
                    file.close()
                else:
                    file.remove()
            self._own, self._adopted, self._peeked = None, [], None
            self._closed = True

    def _files(self) -> list[_File]:
        return [*self._adopted, *([self._own] if self._own is not None else [])]


class _File:
    """One locked file: lines are appended at its end and read from `_start`."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self._file = file
        self._start = 0  # lines before it are in the database
        self._next = 0  # lines before it were handed out
        self._handed_out = 0
        self.size = file.seek(0, os.SEEK_END)
        self.waiting = 0

    @classmethod
    def create(cls, directory: Path, prefix: str) -> Self:
        """Make a new file and lock it."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{prefix}{os.getpid()}-{new_id()[-12:]}.journal"
        file = FileIO(path, "x+")
        path.chmod(0o600)
        _locked(file)  # nobody else knows the name yet
        _sync_directory(directory)
        return cls(path, file)

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """Lock a file that nobody holds, or return None."""
        try:
            file = FileIO(path, "r+")
        except OSError:
            return None
        if not _locked(file) or not path.exists():  # its owner may just have removed it
            file.close()
            return None
        adopted = cls(path, file)
        adopted.waiting = sum(1 for _ in adopted._lines(0))
        return adopted

    def append(self, data: bytes, lines: int) -> None:
        """Write whole lines, or nothing that counts."""
        try:
            self._file.seek(self.size)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self.size)
            raise
        self.size += len(data)
        self.waiting += lines

    def peek(self, limit: int) -> list[str]:
        """Return the first lines that were not dropped."""
        found = list(islice(self._lines(self._start), limit))
        self._handed_out = len(found)
        self._next = found[-1][0] if found else self.size  # whatever else there is was torn
        return [line for _, line in found]

    def drop(self) -> None:
        """Forget what was handed out; empty the file once that was everything."""
        self._start, self.waiting = self._next, self.waiting - self._handed_out
        self._handed_out = 0
        if self._start == self.size > 0:
            self._file.truncate(0)
            self._start = self._next = self.size = 0

    def _lines(self, start: int) -> Iterator[tuple[int, str]]:
        """Read whole, undamaged lines with the places at which they end."""
        rest = b""
        while start + len(rest) < self.size:
            self._file.seek(start + len(rest))
            if not (data := self._file.read(_READ_BYTES)):
                return  # somebody else cut the file
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                start += len(line) + 1
                if (text := _decoded(line)) is not None:
                    yield start, text

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Unlock the file and keep it."""
        self._file.close()


def _encoded(line: str) -> bytes:
    body = line.encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _decoded(line: bytes) -> str | None:
    """Return the value of a line, or None for one that was torn or damaged."""
    head, _, body = line.partition(b" ")
    return body.decode() if head == b"%08x" % zlib.crc32(body) else None


def _sync_directory(directory: Path) -> None:
    """Make a new file's name survive a power cut, where the system can."""
    if sys.platform == "win32":  # pragma: no cover
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
