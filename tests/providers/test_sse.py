"""Server-sent events: every way of splitting the bytes gives the same events, in linear time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.providers.sse import Event, Events, parse

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


def test_an_event_above_the_limit_ends_the_stream_after_those_before_it() -> None:
    assert events([b"data: a\n\ndata: " + b"b" * 2000 + b"\n\ndata: c\n\n"]) == ([Event(b"", b"a")], True)


def test_a_line_without_end_is_noticed_before_it_is_kept_for_long() -> None:
    parser = Events(1000)
    fed = 0
    while not parser.overflow:
        parser.feed(b"x" * 100)
        fed += 100
    assert fed == 1100


@pytest.mark.parametrize(
    ("piece", "count"),
    [(b"a", 1_000_000), (b"\n", 1_000_000), (b"\na", 500_000), (b"data: x\n\n", 200_000), (b"a" * 10_000, 1_000)],
    ids=["bytes without end", "blank lines", "lines without end", "events", "one line of 10 MB"],
)
def test_time_is_linear(piece: bytes, count: int) -> None:
    parser = Events(limit=100_000_000)
    start = time.process_time()
    for _ in range(count):
        parser.feed(piece)
    assert time.process_time() - start < 5  # quadratic would be minutes


def test_a_block_of_comments_is_no_event() -> None:
    assert parse(b": hello") is None
