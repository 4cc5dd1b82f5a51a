"""The real servers of the test suite start, survive kills and leave nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import (
    STOP_TIMEOUT_S,
    PostgresServer,
    RedisServer,
    ServerProcess,
    alive,
    wait_until,
)

SERVERS = [PostgresServer, RedisServer]
ROOT = Path(__file__).parent.parent

# Starts a server, prints where it is, and waits to be killed.
HOLD = """
import sys, time
from tests import servers
server = getattr(servers, sys.argv[1])().start()
print(server.pid, server.directory, flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["postgres_server", "redis_server"])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    """Give a running server of each kind."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, ServerProcess)
    return server


def family(server: ServerProcess) -> list[psutil.Process]:
    """List the processes of a running server."""
    root = psutil.Process(server.pid)
    return [root, *root.children(recursive=True)]


def test_kill_leaves_no_process_and_a_restart_answers_on_the_same_port(
    server: ServerProcess,
) -> None:
    """After SIGKILL no process of the server is left, and it starts again at the same address."""
    processes, url = family(server), server.url
    server.kill()
    assert not any(alive(process) for process in processes)
    assert not server.running
    assert server.start().url == url
    assert server.pid != processes[0].pid


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.__name__)
def test_close_leaves_no_process_and_no_files(kind: type[ServerProcess]) -> None:
    """Closing a server, used or stopped before, ends all its processes and removes its files."""
    children = psutil.Process().children
    before = set(children(recursive=True))
    with kind() as server:
        assert set(children(recursive=True)) > before
        server.stop()
        assert set(children(recursive=True)) == before
        server.start()
    assert set(children(recursive=True)) == before
    assert not server.directory.exists()


def test_a_paused_server_can_be_stopped(server: ServerProcess) -> None:
    """Stopping works on a server that SIGSTOP froze, without waiting until it is killed."""
    processes = family(server)
    server.pause()
    assert wait_until(
        lambda: all(process.status() == psutil.STATUS_STOPPED for process in processes),
        timeout_s=5,
    )
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < STOP_TIMEOUT_S
    assert not any(alive(process) for process in processes)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (PostgresServer, signal.SIGKILL),
        (RedisServer, signal.SIGKILL),
        (RedisServer, signal.SIGTERM),
    ],
)
def test_a_killed_test_run_takes_its_servers_along(
    kind: type[ServerProcess], how: signal.Signals
) -> None:
    """A test process that is killed leaves neither server processes nor files."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, kind.__name__], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder.stdout as lines:
        pid, directory = lines.readline().split()
    holder.send_signal(how)
    holder.wait()
    assert wait_until(lambda: not psutil.pid_exists(int(pid)), timeout_s=30)
    assert wait_until(lambda: not Path(directory).exists(), timeout_s=30)


async def test_committed_rows_survive_a_kill_of_the_postmaster(
    postgres_server: PostgresServer, own_database: str
) -> None:
    """What PostgreSQL has committed is there after SIGKILL and restart."""
    connection = await asyncpg.connect(own_database)
    await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    postgres_server.kill()
    await connection.close(timeout=1)
    postgres_server.start()
    connection = await asyncpg.connect(own_database)
    assert await connection.fetchval("SELECT n FROM kept") == 7
    await connection.close()


async def test_each_test_has_a_database_of_its_own(postgres_url: str, fresh_database: str) -> None:
    """A fresh database is empty and is not the server's own."""
    assert fresh_database != postgres_url
    connection = await asyncpg.connect(fresh_database)
    tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    assert tables == 0
    await connection.close()


@pytest.mark.parametrize("round_", range(2))
def test_redis_is_empty_at_the_start_of_each_test(redis_url: str, round_: int) -> None:
    """What one test leaves in Redis is gone when the next begins."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", round_)


def test_a_paused_redis_answers_after_it_is_resumed(redis_server: RedisServer) -> None:
    """While Redis is frozen a client times out; after SIGCONT the same server answers."""
    redis_server.pause()
    client = redis.Redis(port=redis_server.port, socket_timeout=0.1, retry=Retry(NoBackoff(), 0))
    with client, pytest.raises(redis.TimeoutError):
        client.ping()
    pid = redis_server.pid
    assert redis_server.start().pid == pid
    with redis.Redis(port=redis_server.port) as client:
        assert client.ping()


def test_postgres_runs_under_an_account_without_rights(postgres_server: PostgresServer) -> None:
    """PostgreSQL never runs as root, even where the tests do."""
    assert psutil.Process(postgres_server.pid).uids().effective != 0
    assert psutil.Process(postgres_server.pid).gids().effective != 0
