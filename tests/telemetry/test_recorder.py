"""The last events are kept, found, and written to a file; what cannot be is counted, and slows nobody."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from runestone.telemetry.bus import Bus
from runestone.telemetry.events import AttemptStarted, Event, Failover, ProviderThrottled, RequestStarted
from runestone.telemetry.recorder import EventFile, JsonLines, Recorded, Recorder, Wanted, kinds
from supervisors import ActorRef, ChildSpec, Supervisor, start
from supervisors.testing import crash
from tests.e2e.node import eventually

KEY = "sk-ant-api03-aBcDeFgHiJkLmNoP_123"


def throttled(number: int = 1, provider: str = "a") -> ProviderThrottled:
    return ProviderThrottled(provider=provider, seconds=float(number))


def attempt(request_id: str, provider: str = "a") -> AttemptStarted:
    return AttemptStarted(request_id=request_id, number=1, provider=provider, model="m", group="g")


def recorder(*events: Event, keep: int = 100) -> Recorder:
    made = Recorder(keep)
    for event in events:
        made.handle(event, time.time())
    return made


def numbers(found: Recorder, wanted: Wanted) -> list[int]:
    return [recorded.seq for recorded in found.find(wanted).events]


# -- memory ----------------------------------------------------------------------------------------------------------------


def test_the_last_are_kept_with_their_numbers_and_no_more() -> None:
    made = recorder(*map(throttled, range(25)), keep=10)

    assert numbers(made, Wanted(limit=1000)) == list(range(16, 26))
    assert made.latest == 25


def test_without_a_number_the_last_ones_come_and_with_one_the_first_behind_it() -> None:
    made = recorder(*map(throttled, range(20)))

    assert numbers(made, Wanted(limit=3)) == [18, 19, 20]
    assert numbers(made, Wanted(since=5, limit=3)) == [6, 7, 8]
    assert numbers(made, Wanted(since=20)) == []


def test_who_goes_on_from_next_sees_each_event_once() -> None:
    made, seen, since = recorder(*map(throttled, range(20))), list[int](), 0

    while (found := made.find(Wanted(since=since, limit=7))).events:
        seen += [recorded.seq for recorded in found.events]
        since = found.next

    assert seen == list(range(1, 21))


def test_next_is_behind_those_that_did_not_match() -> None:
    made = recorder(throttled(provider="a"), throttled(provider="b"), throttled(provider="a"))

    found = made.find(Wanted(since=0, provider="b"))

    assert ([r.seq for r in found.events], found.next) == ([2], 3)


def test_what_is_gone_from_the_memory_is_told() -> None:
    made = recorder(*map(throttled, range(25)), keep=10)

    assert made.find(Wanted(since=5)).missed == 10
    assert made.find(Wanted(since=15)).missed == 0
    assert made.find(Wanted()).missed == 0


def test_a_number_of_an_earlier_process_stands_for_the_beginning() -> None:
    assert numbers(recorder(throttled(), throttled()), Wanted(since=5000)) == [1, 2]


def test_events_are_found_by_name_request_and_provider() -> None:
    made = recorder(
        attempt("req_1", "a"),
        Failover(group="g", origin="a", target="b", reason="timeout", request_id="req_1"),
        attempt("req_2", "b"),
        throttled(provider="c"),
    )

    assert numbers(made, Wanted(request="req_1")) == [1, 2]
    assert numbers(made, Wanted(provider="b")) == [2, 3]
    assert numbers(made, Wanted(kinds=kinds("attempt.*"))) == [1, 3]
    assert numbers(made, Wanted(kinds=kinds("attempt.*"), provider="b", request="req_2")) == [3]
    assert numbers(made, Wanted(kinds=kinds("failover"))) == [2]


def test_a_pattern_that_no_name_matches_has_no_kinds() -> None:
    assert kinds("breker.*") == frozenset()


def test_what_is_shown_is_on_one_line_and_holds_no_key() -> None:
    word = f"a\nb\x1b Bearer {KEY}"
    made = recorder(RequestStarted(request_id="r", route="/", model=word, stream=True, key="", traceparent=word))

    (data,) = [recorded.as_data() for recorded in made.find(Wanted()).events]

    assert data["model"] == data["traceparent"] == "a\\nb\\x1b Bearer ***"
    assert (data["seq"], data["event"], data["request_id"]) == (1, "request.started", "r")


# -- a file ----------------------------------------------------------------------------------------------------------------


def recorded(number: int, text: str = "") -> Recorded:
    return Recorded(number, 1.5, throttled(number, text or "a"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_is_appended_to_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text('{"seq": 0}\n')
    path.chmod(0o644)

    JsonLines(path, 10_000).write([recorded(1), recorded(2)])

    assert [line["seq"] for line in lines(path)] == [0, 1, 2]
    assert lines(path)[1] == {"seq": 1, "at": 1.5, "event": "provider.throttled", "provider": "a", "seconds": 1.0}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_grows_to_its_bound_and_its_predecessor_is_kept_once(tmp_path: Path) -> None:
    path, old = tmp_path / "events", tmp_path / "events.1"
    file = JsonLines(path, 1000)

    for first in range(0, 100, 7):
        file.write([recorded(number) for number in range(first, first + 7)])
        assert path.stat().st_size <= 1000

    both = [line["seq"] for line in (*lines(old), *lines(path))]
    assert both == list(range(both[0], 105))
    assert old.stat().st_size <= 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events", "events.1"]


def test_an_event_that_is_larger_than_the_bound_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "events"
    JsonLines(path, 100).write([recorded(1), recorded(2, "x" * 500), recorded(3)])

    assert [line["seq"] for line in lines(tmp_path / "events.1")] == [2]
    assert [line["seq"] for line in lines(path)] == [3]


def test_one_that_somebody_has_removed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "events"
    file = JsonLines(path, 10_000)
    file.write([recorded(1)])
    path.unlink()

    file.write([recorded(2)])

    assert [line["seq"] for line in lines(path)] == [2]


def test_what_is_no_file_is_written_to_and_left_as_it_is(tmp_path: Path) -> None:
    read, write = os.pipe()
    path = Path(f"/proc/self/fd/{write}")
    mode = path.stat().st_mode

    JsonLines(path, 10).write([recorded(1)])

    assert json.loads(os.read(read, 1000))["seq"] == 1
    assert path.stat().st_mode == mode
    os.close(read)
    os.close(write)


@pytest.fixture
def told() -> Iterator[list[str]]:
    found = list[str]()
    sink = logger.add(lambda message: found.append(message.record["message"]), level="INFO")
    yield found
    logger.remove(sink)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told_once_and_room_on_it_too(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "events"
    path.symlink_to("/dev/full")
    file = JsonLines(path, 10_000)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            file.write([recorded(1)])
    path.unlink()

    file.write([recorded(2)])

    assert told == [
        f"events are not written to {path}: No space left on device",
        f"events are written to {path} again",
    ]
    assert [line["seq"] for line in lines(path)] == [2]


def test_a_disk_that_fills_up_in_the_middle_of_a_batch_leaves_no_half_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from tests.telemetry.test_recorder import recorded, JsonLines\n"
        "file = JsonLines(Path(sys.argv[1]), 10_000)\n"
        "file.write([recorded(1)])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    file.write([recorded(n) for n in range(2, 10)])\n"
        "except OSError:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    file.write([recorded(10)])\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "events")], cwd=root, check=True, capture_output=True)

    assert [line["seq"] for line in lines(tmp_path / "events")] == [1, 10]


# -- its actor -------------------------------------------------------------------------------------------------------------


async def beginning(made: Recorder, path: Path, bus: Bus | None = None) -> tuple[ActorRef, ActorRef]:
    children = [ChildSpec(id="events", start=partial(EventFile, bus or Bus(), made, path, 10_000_000), name="events")]
    root = await start(partial(Supervisor, children))
    actor = root.process.system.registry.lookup("events")
    assert actor is not None
    return root, actor


def test_the_end_of_the_tree_loses_nothing_and_a_crash_neither_memory_nor_what_was_in_hand(tmp_path: Path) -> None:
    path, bus, made = tmp_path / "events", Bus(), Recorder(100)
    bus.subscribe_later(made.handle)

    async def story() -> None:
        root, actor = await beginning(made, path, bus)
        for number in range(1, 21):
            bus.emit(throttled(number))
        crash(actor, RuntimeError("a bug"))
        while root.process.system.registry.lookup("events") is actor:
            await asyncio.sleep(0)
        bus.emit(throttled(21))  # nobody is there to write it
        while (after := root.process.system.registry.lookup("events")) is None or after is actor:
            await asyncio.sleep(0.01)
        bus.flush()
        eventually(lambda: path.exists() and len(lines(path)) == 21, "both have written")
        for number in range(22, 41):
            bus.emit(throttled(number))
        await root.stop()

    asyncio.run(story())

    assert [line["seq"] for line in lines(path)] == list(range(1, 41))
    assert numbers(made, Wanted(limit=1000)) == list(range(1, 41))
    bus.emit(throttled(41))
    assert len(lines(path)) == 40


def test_when_the_tree_has_stopped_everything_is_written(tmp_path: Path) -> None:
    path, made = tmp_path / "events", Recorder(10)

    def written() -> int:
        return len(lines(path))

    async def story() -> int:
        root, _ = await beginning(made, path)
        for number in range(9000):
            made.handle(throttled(number), 0.0)
        await root.stop()
        return written()

    assert asyncio.run(story()) == 9000
    assert made.dropped == 0


def test_a_disk_that_takes_nothing_drops_and_holds_nobody_up(tmp_path: Path) -> None:
    path, made = tmp_path / "events", Recorder(10)
    os.mkfifo(path)  # to open it waits for a reader

    async def story() -> None:
        root, _ = await beginning(made, path)
        made.handle(throttled(), 0.0)
        assert made._output is not None
        eventually(made._output._queue.empty, "its thread has it in hand")
        for number in range(10_020):
            made.handle(throttled(number), 0.0)
        await root.stop()

    asyncio.run(story())

    assert made.dropped == 20
    assert made.latest == 10_021
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
