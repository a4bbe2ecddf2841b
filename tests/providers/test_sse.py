"""Server-sent events: every way of splitting the bytes gives the same events, in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.providers.sse import EVENT_BYTES, TURN_BYTES, TURN_LINES, Blocks, Event, Events, condensed, parse, turn

CORPUS = {
    "lf": b"data: a\n\ndata: b\n\n",
    "crlf": b"data: a\r\n\r\ndata: b\r\n\r\n",
    "cr": b"data: a\r\rdata: b\r\r",
    "mixed line ends": b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\n\n",
    "bom": b"\xef\xbb\xbfdata: a\n\n",
    "two boms": b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n",
    "split characters": 'data: {"t":"héé\U0001f600"}\n\n'.encode(),
    "separators that are no line ends": 'data: {"t":"a\u2028b\u2029c\u0085d\x0be\x0cf\x1eg"}\n\n'.encode(),
    "several data lines": b"data: a\ndata: b\ndata:\ndata: c\n\n",
    "no space": b"data:a\n\ndata:  b\n\n",
    "empty data": b"data:\n\ndata: \n\ndata\n\n",
    "comments": b": OPENROUTER PROCESSING\n\n:\ndata: a\n: x\n\n",
    "comment in data": b"data: : keepalive\n\ndata: a\n\n",
    "names": b"event: ping\ndata: {}\n\nevent:error\ndata: {}\n\nevent: x\n\n",
    "id and retry": b"id: 1\nretry: 10\ndata: a\n\nid: 2\n\n",
    "unknown fields": b"foo: bar\nfoo\ndata: a\n\n",
    "blank lines": b"\n\n\n\ndata: a\n\n\n\n\ndata: b\n\n",
    "unterminated": b"data: a\n\ndata: b\n",
    "an error's dialects": b'data: {"error":{}}\n\nevent: error\ndata: {"type":"error","error":{}}\n\n',
    "done twice, and more": b"data: [DONE]\n\ndata: [DONE]\n\ndata: x\n\n",
    "a bom in the middle": b"data: a\n\n\xef\xbb\xbfdata: b\n\n",
    "half a bom": b"\xef\xbbdata: a\n\ndata: b\n\n",
    "spaces in blank lines": b"data: a\n \ndata: b\n\n",
    "keys in capitals": b"Data: a\n\nDATA: b\n\n data: c\n\n",
    "nul": b"data: a\x00b\n\n",
    "invalid utf-8": b"data: \xff\xfe\n\n",
}


def events(pieces: Iterable[bytes], limit: int = 1024) -> tuple[list[Event], bool]:
    parser = Events(limit)
    found: list[Event] = []
    for piece in pieces:
        if parser.overflow:
            break
        found += parser.feed(piece)
    return found, parser.overflow


def reference(data: bytes) -> list[Event]:
    """The standard, to the letter and slowly."""
    found: list[Event] = []
    name, lines = b"", list[bytes]()
    *whole, _ = re.split(rb"\r\n|\r|\n", data.removeprefix(b"\xef\xbb\xbf"))
    for line in whole:
        if not line:
            if lines:
                found.append(Event(name, b"\n".join(lines)))
            name, lines = b"", []
            continue
        key, _, value = line.partition(b":")
        if key == b"data":
            lines.append(value.removeprefix(b" "))
        elif key == b"event":
            name = value.removeprefix(b" ")
    return found


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_reads_as_the_standard_says(name: str) -> None:
    assert events([CORPUS[name]])[0] == reference(CORPUS[name])


@pytest.mark.parametrize("name", CORPUS)
def test_every_split_in_two_or_three_gives_the_same_events(name: str) -> None:
    data = CORPUS[name]
    whole = events([data])
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            assert events([data[:first], data[first:second], data[second:]]) == whole


@pytest.mark.parametrize("name", CORPUS)
def test_single_bytes_give_the_same_events(name: str) -> None:
    data = CORPUS[name]
    assert events(data[i : i + 1] for i in range(len(data))) == events([data])


PIECES = st.lists(
    st.sampled_from(
        [
            b"data: x",
            b"data:",
            b"event: e",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b": c",
            b"id: 1",
            b"\xef\xbb\xbf",
            b"y",
            b"data",
        ]
    )
)


@given(st.lists(PIECES.map(b"".join)))
def test_any_stream_in_any_split_reads_as_the_standard_says(pieces: list[bytes]) -> None:
    assert events(pieces, limit=10**6)[0] == reference(b"".join(pieces))


@given(PIECES.map(b"".join), st.integers(min_value=4, max_value=24), st.data())
def test_the_limit_falls_at_the_same_event_in_any_split(data: bytes, limit: int, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(min_value=0, max_value=len(data)), max_size=5)))
    bounds = [0, *cuts, len(data)]
    whole, too_large = events([data], limit)
    split, split_too_large = events((data[a:b] for a, b in pairwise(bounds)), limit)
    assert split == whole
    assert split_too_large == too_large


def test_blank_lines_before_an_event_do_not_count_towards_its_limit() -> None:
    line = b"data:data:event: e\n"
    for cut in range(4):
        assert events([b"\n\n\n"[:cut], b"\n\n\n"[cut:] + line], limit=len(line)) == ([], False)
        assert events([b"\n\n\n"[:cut], b"\n\n\n"[cut:] + line + b"\n"], limit=len(line))[1] is False


def test_an_event_above_the_limit_ends_the_stream_after_those_before_it() -> None:
    assert events([b"data: a\n\ndata: " + b"b" * 2000 + b"\n\ndata: c\n\n"]) == ([Event(b"", b"a")], True)


def test_a_line_without_end_is_noticed_before_it_is_kept_for_long() -> None:
    parser = Events(1000)
    fed = 0
    while not parser.overflow:
        parser.feed(b"x" * 100)
        fed += 100
    assert fed == 1100


class Counted(Blocks):
    """Counts the bytes that are copied to look for an event's end."""

    __slots__ = ("work",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.work = 0

    def _cut(self, data: bytes) -> bytes:
        self.work += len(data) + sum(map(len, self._parts))
        return super()._cut(data)

    def _keep(self, data: bytes) -> bytes:
        self.work += len(data)
        return super()._keep(data)


@pytest.mark.parametrize(
    ("piece", "count"),
    [
        (b"a", 100_000),
        (b"\n", 200_000),
        (b"\r\n", 100_000),
        (b"\na", 100_000),
        (b"a\n", 100_000),
        (b"data: x\n\n", 50_000),
        (b"a\n\na", 50_000),
        (b"a" * 10_000, 1_000),
    ],
    ids=[
        "bytes without end",
        "blank lines",
        "crlf",
        "starts of lines",
        "ends of lines",
        "events",
        "halves of events",
        "one line of 10 MB",
    ],
)
def test_every_byte_is_touched_a_bounded_number_of_times(piece: bytes, count: int) -> None:
    blocks = Counted(limit=100_000_000)

    for _ in range(count):
        blocks.feed(piece)

    assert blocks.work <= 4 * len(piece) * count


@pytest.mark.parametrize("size", [1, 9, 4096])
def test_what_is_kept_between_reads_never_outgrows_the_limit_and_one_read(size: int) -> None:
    parser = Events(limit=10_000)
    kept = 0

    while not parser.overflow:
        parser.feed(b"x" * size)
        kept = max(kept, parser._blocks._size)

    assert kept <= 10_000 + size


def test_a_line_of_ten_megabytes_is_refused_in_one_read_and_in_many() -> None:
    line = b"data: " + b"x" * 10_000_000 + b"\n\n"

    assert events([line], EVENT_BYTES) == ([], True)
    assert events((line[i : i + 65536] for i in range(0, len(line), 65536)), EVENT_BYTES) == ([], True)


def test_a_million_empty_events_are_none() -> None:
    assert events([b"\n\n" * 1_000_000]) == ([], False)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_a_run_of_blank_lines_is_one_blank_line_and_what_stands_around_it_is_read(end: bytes) -> None:
    stream = b"data: a" + end * 10_000 + b"data: b" + end * 10_000

    assert condensed(Blocks().feed(stream)) == b"data: a\n\ndata: b\n\n"
    assert events([stream], limit=10**6) == ([Event(b"", b"a"), Event(b"", b"b")], False)


@given(st.lists(st.tuples(st.sampled_from(["a", "\n", "\r", "\r\n"]), st.integers(1, 400)), max_size=8), st.data())
def test_runs_of_any_length_in_any_split_read_as_the_standard_says(
    runs: list[tuple[str, int]], draw: st.DataObject
) -> None:
    data = b"data:x\n\n" + b"".join(b"data:" + text.encode() * n for text, n in runs) + b"\n\n"
    cut = draw.draw(st.integers(0, len(data)))

    assert events([data[:cut], data[cut:]], limit=10**6)[0] == reference(data)


def turns(data: bytes) -> list[bytes]:
    parts, begin = list[bytes](), 0
    while begin < len(data):
        end = turn(data, begin)
        parts.append(data[begin:end])
        begin = end
    return parts


@pytest.mark.parametrize("line", [b"\n", b"\r", b"\r\n", b":\n", b"data: x\r\n", b"data: {}\n\n"])
def test_what_is_read_in_one_turn_has_a_bounded_number_of_lines_and_is_all_there(line: bytes) -> None:
    data = line * 100_000
    parts = turns(data)

    assert b"".join(parts) == data
    assert max(part.count(b"\n") for part in parts) <= max(TURN_LINES, TURN_BYTES)
    assert max(part.count(b"\r") for part in parts) <= max(TURN_LINES, TURN_BYTES)


def test_few_lines_are_one_turn_however_long_they_are_and_however_many_bytes() -> None:
    assert len(turns(b"x" * 1_000_000)) == 1
    assert len(turns((b"data: " + b"x" * 1000 + b"\n\n") * (TURN_LINES // 2))) == 1


def test_many_events_in_one_read_may_be_larger_than_the_limit_of_one() -> None:
    found, too_large = events([b"data: x\n\n" * 1000], limit=100)

    assert (len(found), too_large) == (1000, False)


@given(st.lists(st.tuples(st.sampled_from([b"", b"ping", b"error"]), st.binary(max_size=20))))
def test_what_was_written_as_events_is_read_back(written: list[tuple[bytes, bytes]]) -> None:
    wanted = [Event(name, data.replace(b"\r", b"\n")) for name, data in written]

    stream = b"".join(
        (b"event: " + e.name + b"\n" if e.name else b"")
        + b"".join(b"data: " + line + b"\n" for line in e.data.split(b"\n"))
        + b"\n"
        for e in wanted
    )

    assert events([stream]) == (wanted, False)


def test_a_block_of_comments_is_no_event() -> None:
    assert parse(b": hello") is None
