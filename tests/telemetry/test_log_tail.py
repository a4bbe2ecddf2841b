"""The last lines of the log in memory: found by what they are about, counted where they are gone, put there by any thread."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from runestone.telemetry.log_tail import WantedLines, find
from runestone.telemetry.logs import Said, Sink, Tail

KEY = "sk-ant-api03-aBcDeFgHiJkLmNoP_123"


def said(message: str, level: str = "INFO", logger: str = "runestone.app", **more: Any) -> Said:
    return Said(at=0.0, level=level, logger=logger, message=message, more=more)


def tail(*lines: Said, keep: int = 100) -> Tail:
    made = Tail(keep)
    for line in lines:
        made.put(line)
    return made


def found(lines: Tail, **wanted: Any) -> list[str]:
    return [line["event"] for line in find(lines.kept(), WantedLines(**wanted)).lines]


def numbered(count: int) -> list[Said]:
    return [said(str(number)) for number in range(1, count + 1)]


def test_the_last_are_kept_and_without_a_number_the_last_of_them_come() -> None:
    lines = tail(*numbered(25), keep=10)

    assert found(lines, limit=100) == [str(n) for n in range(16, 26)]
    assert found(lines, limit=2) == ["24", "25"]
    assert found(tail(), limit=2) == []


def test_who_goes_on_from_next_sees_each_line_once_and_is_told_what_is_gone() -> None:
    lines, since, seen = tail(*numbered(20)), 0, list[str]()

    while (page := find(lines.kept(), WantedLines(since=since, limit=7))).lines:
        seen += [line["event"] for line in page.lines]
        since = page.next

    assert seen == [str(n) for n in range(1, 21)]
    late = find(tail(*numbered(25), keep=10).kept(), WantedLines(since=5))
    assert (late.missed, late.next, late.lines[0]["seq"]) == (10, 25, 16)


def test_a_number_of_an_earlier_process_stands_for_the_beginning() -> None:
    assert found(tail(said("a")), since=5000) == ["a"]
    assert find(tail().kept(), WantedLines(since=3)).missed == 0


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        ("debug", "debug info odd warning error critical"),
        ("info", "info odd warning error critical"),
        ("warning", "warning error critical"),
        ("critical", "critical"),
    ],
)
def test_lines_are_chosen_by_how_grave_they_are(level: str, lines: str) -> None:
    names = {name: name.upper() for name in ("debug", "info", "warning", "error", "critical")} | {"odd": "Level 25"}

    assert set(found(tail(*(said(word, name) for word, name in names.items())), level=level)) == set(lines.split())


def test_lines_are_chosen_by_who_says_them_and_by_their_request() -> None:
    lines = tail(
        said("a", logger="runestone"),
        said("b", logger="runestone.http.front", request_id="r"),
        said("c", logger="runestone.https", request_id="r"),
    )

    assert found(lines, logger="runestone") == ["a", "b", "c"]
    assert found(lines, logger="runestone.http") == ["b"]
    assert found(lines, request="r") == ["b", "c"]
    assert found(lines, request="r", logger="runestone.https") == ["c"]


def test_a_line_is_masked_and_stays_one() -> None:
    (line,) = find(tail(said(f"a\nb Bearer {KEY}", key=KEY)).kept(), WantedLines()).lines

    assert (line["event"], line["key"]) == ("a\\nb Bearer ***", "sk-***")


def test_what_a_full_queue_drops_is_in_the_memory_all_the_same() -> None:
    stuck, going = threading.Event(), threading.Event()

    def write(_: bytes) -> None:
        going.set()
        stuck.wait(30)

    sink = Sink(write, as_json=True)
    sink.put(said("first"))
    going.wait(30)
    for line in numbered(10_050):
        sink.put(line)

    assert sink.dropped == 50
    assert found(sink.tail, limit=1) == ["10050"]
    stuck.set()
    sink.stop()


def test_threads_that_write_at_once_lose_nothing() -> None:
    lines = Tail(10_000)

    def write(name: str) -> None:
        for line in numbered(1000):
            lines.put(said(f"{name}{line.message}"))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        lines.kept()  # never fails
    for thread in threads:
        thread.join()

    assert len(set(found(lines, limit=10_000))) == 4000
    assert [number for number, _ in lines.kept()] == list(range(1, 4001))
