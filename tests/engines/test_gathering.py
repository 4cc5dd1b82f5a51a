"""What waits for company goes on together, in order, and nothing is lost on the way."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from conduit.engines.gathering import GROUP, Gathering

LONG_S = 60.0  # nobody waits for it


async def test_what_comes_within_a_moment_goes_on_as_one_group() -> None:
    """Two things that come one after the other are handed on together, without being asked for."""
    groups: list[list[int]] = []
    done = asyncio.Event()

    async def hand_on(group: Sequence[int]) -> None:
        groups.append(list(group))
        done.set()

    gathering = Gathering(hand_on, linger_s=0.01)
    gathering.add(1)
    gathering.add(2)
    assert (len(gathering), groups) == (2, [])
    await asyncio.wait_for(done.wait(), 5.0)
    assert (len(gathering), groups) == (0, [[1, 2]])


async def test_flush_hands_on_at_once_also_what_comes_meanwhile() -> None:
    """Flushing returns when nothing waits any more, and nothing is in hand."""
    seen: list[int] = []

    async def hand_on(group: Sequence[int]) -> None:
        await asyncio.sleep(0)
        seen.extend(group)
        if 3 not in seen:
            gathering.add(3)

    gathering = Gathering(hand_on, linger_s=LONG_S)
    gathering.add(1)
    gathering.add(2)
    await gathering.flush()
    assert seen == [1, 2, 3]


async def test_a_full_group_waits_for_nobody() -> None:
    """The thing that fills a group sends it on its way."""
    seen: list[int] = []

    async def hand_on(group: Sequence[int]) -> None:
        seen.extend(group)

    gathering = Gathering(hand_on, linger_s=LONG_S)
    for n in range(GROUP):
        gathering.add(n)
    await asyncio.sleep(0)
    assert seen == list(range(GROUP))


async def test_a_group_that_fails_is_told_and_the_next_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One failure loses its own group alone, and the log says of which kind it was."""
    seen: list[int] = []

    async def hand_on(group: Sequence[int]) -> None:
        if 0 in group:
            raise ValueError("sk-secret")
        seen.extend(group)

    gathering = Gathering(hand_on, linger_s=LONG_S)
    for n in range(GROUP + 1):
        gathering.add(n)
    with caplog.at_level(logging.ERROR):
        await gathering.flush()
    assert seen == [GROUP]
    assert "ValueError" in caplog.text
    assert "sk-secret" not in caplog.text


def test_what_an_ended_loop_left_behind_goes_on_in_the_next() -> None:
    """A loop that ends before the moment is over loses nothing, nor does a thread without one."""
    seen: list[int] = []

    async def hand_on(group: Sequence[int]) -> None:
        seen.extend(group)

    gathering = Gathering(hand_on, linger_s=LONG_S)

    async def add(thing: int) -> None:
        gathering.add(thing)

    asyncio.run(add(1))
    gathering.add(2)
    asyncio.run(add(3))
    asyncio.run(gathering.flush())
    assert seen == [1, 2, 3]


async def test_of_too_many_the_oldest_go() -> None:
    """What may wait is bounded."""
    seen: list[int] = []

    async def hand_on(group: Sequence[int]) -> None:
        seen.extend(group)

    gathering = Gathering(hand_on, linger_s=LONG_S, most=2)
    for n in range(3):
        gathering.add(n)
    await gathering.flush()
    assert seen == [1, 2]


@pytest.mark.parametrize("settled", [True, False])
async def test_what_comes_in_a_loop_that_ends_is_not_waited_for_there(settled: bool) -> None:
    """Who flushes is not held up by what another thread's loop began before it ended."""
    seen: list[int] = []
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hand_on(group: Sequence[int]) -> None:
        asked.set()
        await go_on.wait()
        seen.extend(group)

    gathering = Gathering(hand_on, linger_s=LONG_S)
    if settled:
        gathering.settle()

    def thread() -> None:
        loop = asyncio.new_event_loop()

        def ends_at_once() -> None:
            for k in range(1, GROUP + 1):
                gathering.add(k)  # the last one fills a group
            loop.stop()

        loop.call_soon(ends_at_once)
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.get_coro().close()  # type: ignore[union-attr]
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    gathering.add(0)
    async with asyncio.timeout(10.0):
        flushing = asyncio.create_task(gathering.flush())
        await asked.wait()
        await asyncio.to_thread(thread)
        go_on.set()
        await flushing
    assert seen == list(range(GROUP + 1))
    assert len(gathering) == 0


async def test_a_settled_one_hands_on_by_itself_what_comes_from_elsewhere() -> None:
    """Nobody has to flush, and nothing is handed on in a loop or thread where nothing lives."""
    where: list[asyncio.AbstractEventLoop] = []
    done = asyncio.Event()

    async def hand_on(group: Sequence[int]) -> None:
        where.append(asyncio.get_running_loop())
        done.set()

    gathering = Gathering(hand_on, linger_s=0.01)
    gathering.settle()

    async def elsewhere() -> None:
        gathering.add(1)
        await asyncio.sleep(0.05)

    await asyncio.to_thread(asyncio.run, elsewhere())
    async with asyncio.timeout(10.0):
        await done.wait()
    assert where == [asyncio.get_running_loop()]
