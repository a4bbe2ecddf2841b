"""A read that holds more than one turn of the event loop should take: others have theirs in between, and the answer is the same."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httpx
import pytest
from attrs import define, field

from runestone.config.settings import TimeoutSettings
from runestone.domain.chat import ChatRequest
from runestone.domain.failure import UpstreamError
from runestone.domain.routing import DEFAULT_GROUP, Choice, Plan
from runestone.failover.call import UpstreamCall
from runestone.providers.codecs import Codec, Piece, StreamDecoder, codec_for
from runestone.providers.messages import Lease
from runestone.providers.sse import TURN_BYTES, TURN_LINES
from runestone.providers.stream import UpstreamStream
from runestone.telemetry.bus import Bus
from supervisors import Registry
from tests.support.fleet import MODEL, provider

pytestmark = pytest.mark.anyio
FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"first"},"finish_reason":null}]}\n\n'
SECOND = FIRST.replace(b"first", b"second")
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
EMPTY = {
    "blank": b"\n\n",
    "crlf": b"\r\n\r\n",
    "cr": b"\r\r",
    "comments": b":\n\n",
    "data": b"data:\n\n",
    "ids": b"id: 1\n\n",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Reads(UpstreamStream):
    """Gives each of ``reads`` at once, and then ends."""

    def __init__(self, *reads: bytes) -> None:
        self._reads = list(reads)

    async def __anext__(self) -> bytes:
        if not self._reads:
            raise StopAsyncIteration
        return self._reads.pop(0)

    def fail(self, error: UpstreamError) -> None:
        raise error

    async def aclose(self) -> None:
        self._reads.clear()


@define
class Wire:
    """Answers with ``reads``."""

    reads: tuple[bytes, ...]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Reads(*self.reads))


@define
class Watched:
    """A decoder that notes how many lines it is fed in each turn of the loop."""

    decoder: StreamDecoder
    clock: Clock
    lines: dict[int, int] = field(factory=dict)

    @property
    def usage(self) -> Any:
        return self.decoder.usage

    def feed(self, data: bytes) -> Piece:
        self.lines[self.clock.turn] = self.lines.get(self.clock.turn, 0) + data.count(b"\n") + data.count(b"\r")
        return self.decoder.feed(data)

    def eof(self) -> Piece:
        return self.decoder.eof()


@define
class Watching:
    """A codec whose decoder is watched."""

    codec: Codec
    clock: Clock
    decoder: Watched | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.codec, name)

    def stream(self, chat: ChatRequest, *, created: int) -> StreamDecoder:
        self.decoder = Watched(self.codec.stream(chat, created=created), self.clock)
        return self.decoder


@define
class Clock:
    """Counts the turns that somebody else gets."""

    turn: int = 0

    async def run(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


async def answered(*reads: bytes) -> tuple[bytes, dict[int, int]]:
    """What the client gets of ``reads``, and how many lines were looked at in each turn."""
    settings, clock = provider("a"), Clock()
    choice = Choice("a", MODEL)
    lease = Lease(
        id=1,
        incarnation=1,
        choice=choice,
        plan=Plan(group=DEFAULT_GROUP, tier1=(choice,)),
        settings=settings,
        transport=cast("Any", Wire(reads)),
        provider=Registry().via("a"),
    )
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    chat = ChatRequest(request_id="r", wire="openai", model=MODEL, stream=True, body=body, raw=b"{}")
    codec = Watching(codec_for("openai"), clock)
    other = asyncio.ensure_future(clock.run())
    call = UpstreamCall(chat, lease, cast("Codec", codec), TimeoutSettings(), Bus())
    try:
        await call.open()
        out = [call.head]
        while not call.ended:
            out.append(await call.read())
    finally:
        await call.close()
        other.cancel()
    assert codec.decoder is not None
    return b"".join(out), codec.decoder.lines


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY.keys())
@pytest.mark.parametrize("before", [b"", FIRST], ids=["with the first content", "after it"])
async def test_others_have_their_turns_within_a_read_of_empty_events_and_the_answer_is_the_same(
    before: bytes, empty: bytes
) -> None:
    stream = FIRST + empty * 50_000 + SECOND + empty * 50_000 + END
    reads = (stream,) if not before else (before, stream.removeprefix(before))

    answer, lines = await answered(*reads)

    assert answer == FIRST + SECOND + END
    assert max(lines.values()) <= max(TURN_LINES, TURN_BYTES)
    assert len(lines) > 100


async def test_content_in_the_read_that_goes_beyond_a_megabyte_counts_still() -> None:
    comments = b": wait\n\n" * 40_000

    answer, _ = await answered(*[comments] * 3, comments + FIRST + comments + END)

    assert answer == FIRST + END


async def test_a_failure_behind_much_that_is_empty_comes_after_what_was_whole_before_it() -> None:
    with pytest.raises(UpstreamError, match="an upstream's own word"):
        await answered(
            FIRST + b":\n\n" * 10_000 + b'data: {"error":{"message":"an upstream\'s own word"}}\n\n' + SECOND
        )
