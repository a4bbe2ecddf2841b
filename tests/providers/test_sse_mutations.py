"""Streams that are damaged at random and cut at random places: read as the standard reads them, and in any cut as in one piece.

``CASES`` of them in CI, 50,000 in the long run; each replays from its number.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from runestone.domain.chat import ChatRequest, Usage, Wire
from runestone.domain.failure import FailureKind
from runestone.providers.codecs import codec_for
from tests.providers.test_sse import CORPUS, events, reference

RECORDED = {
    path.parent.name: path.read_bytes() for path in sorted((Path(__file__).parent / "recorded").glob("*/stream.sse"))
}
STREAMS = [*CORPUS.values(), *RECORDED.values()]
WORDS = (
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\n\r", b"data:", b"data: ", b"event: x\n", b"id: 1\n", b": ping\n", b":"),
    *(b"\xef\xbb\xbf", b"\x00", b"\xff", "\u2028".encode(), "\u0085".encode(), b"[DONE]", b"data: [DONE]\n\n", b"{", b"}", b'"'),
)  # fmt: skip
CASES = 3_000
counts = pytest.mark.parametrize(
    "cases", [pytest.param(CASES, id="some"), pytest.param(50_000, id="many", marks=pytest.mark.long)]
)


def damaged(data: bytes, dice: random.Random) -> bytes:
    """``data`` with a few words put in, bytes changed, pieces left out, doubled or moved."""
    out = bytearray(data)
    for _ in range(dice.choice((0, 1, 1, 2, 3, 8))):
        at, size = dice.randrange(len(out) + 1), dice.choice((1, 1, 2, 7, 40))
        match dice.randrange(5):
            case 0:
                out[at:at] = dice.choice(WORDS)
            case 1 if at < len(out):
                out[at] = dice.choice((dice.randrange(256), ord("\n"), ord("\r"), ord(":")))
            case 2:
                del out[at : at + size]
            case 3:
                out[at:at] = out[at : at + size]
            case _:
                moved = out[at : at + size]
                del out[at : at + size]
                to = dice.randrange(len(out) + 1)
                out[to:to] = moved
    return bytes(out)


def cut(data: bytes, dice: random.Random) -> Iterator[bytes]:
    """``data`` in pieces: single bytes, or some, or few."""
    most = dice.choice((0, 1, 3, 10, len(data)))
    places = range(1, len(data)) if most == len(data) else [dice.randrange(len(data) + 1) for _ in range(most)]
    for begin, end in pairwise((0, *sorted(places), len(data))):
        yield data[begin:end]


@counts
def test_damaged_streams_read_as_the_standard_says_however_they_are_cut(cases: int) -> None:
    for number in range(cases):
        dice = random.Random(number)
        data = damaged(b"".join(dice.choices(STREAMS, k=dice.choice((1, 1, 2)))), dice)

        assert events(cut(data, dice), limit=10**6) == (reference(data), False), f"case {number}"


Told = tuple[bytes, bool, FailureKind | None, Usage | None]


def told(kind: str, client: Wire, pieces: Iterator[bytes]) -> Told:
    """What a client gets of a stream: its bytes, whether they are whole, why they are not, and the tokens."""
    chat = ChatRequest(
        request_id="r", wire=client, model="m", stream=True, body={"messages": [{"role": "user"}]}, raw=b""
    )
    decoder = codec_for(kind, "chat").stream(chat, created=0)
    data = b""
    for piece in pieces:
        read = decoder.feed(piece)
        data += read.data
        if read.ended or read.failure is not None:
            break
    else:
        read = decoder.eof()
        data += read.data
    return data, read.ended, None if read.failure is None else read.failure.kind, decoder.usage


@counts
def test_what_a_client_gets_of_a_damaged_stream_does_not_depend_on_how_it_was_cut(cases: int) -> None:
    wires: tuple[Wire, ...] = ("openai", "anthropic")
    for number in range(cases // 4):
        dice = random.Random(number)
        kind = dice.choice(list(RECORDED))
        data = damaged(RECORDED[kind], dice)
        for client in wires:
            assert told(kind, client, cut(data, dice)) == told(kind, client, iter([data])), f"case {number}, {client}"
