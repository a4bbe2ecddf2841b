"""A stream's answer on virtual time: bytes as they come, heartbeats while there are none, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import MutableMapping
from typing import Any, cast

import pytest

from runestone.domain.failure import Failure, UpstreamError
from runestone.failover.call import UpstreamCall
from runestone.http import event_stream
from runestone.http.event_stream import HEARTBEAT, Heartbeat
from supervisors.testing import VirtualTimeLoop, leak_check, settle

pytestmark = pytest.mark.anyio
BROKEN = UpstreamError(Failure(kind="truncated", message="it broke off"))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


def now() -> float:
    return asyncio.get_running_loop().time()


class Script:
    """A call that gives each piece after so many seconds; ``None`` is a real end without bytes, an error a break."""

    def __init__(self, *pieces: tuple[float, bytes | UpstreamError | None], head: bytes = b"head") -> None:
        self.head = head
        self.ended = not pieces
        self._pieces = list(pieces)

    async def read(self) -> bytes:
        seconds, piece = self._pieces.pop(0)
        await asyncio.sleep(seconds)
        if isinstance(piece, UpstreamError):
            raise piece
        self.ended = not self._pieces
        return piece or b""


class Client:
    """What a client gets and when; each write takes it ``seconds``."""

    def __init__(self, *, seconds: float = 0.0, failing: bool = False) -> None:
        self.got: list[tuple[float, bytes]] = []
        self.messages: list[MutableMapping[str, Any]] = []
        self._seconds = seconds
        self._failing = failing

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body":
            self.got.append((now(), message["body"]))
            if self._failing and message["body"] == HEARTBEAT:
                raise ConnectionResetError
            await asyncio.sleep(self._seconds)

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.got)

    @property
    def beats(self) -> list[float]:
        return [at for at, data in self.got if data == HEARTBEAT]


async def write(script: Script, client: Client) -> None:
    async with leak_check():
        await event_stream.write(cast("UpstreamCall", script), client.send, [(b"x-a", b"1")])


async def test_the_head_then_what_comes_then_the_end() -> None:
    client = Client()

    await write(Script((1, b"one"), (1, b"two"), (1, b"end")), client)

    start, *bodies = client.messages
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert start["headers"] == [*event_stream.HEAD, (b"x-a", b"1")]
    assert client.got == [(0.0, b"head"), (1.0, b"one"), (2.0, b"two"), (3.0, b"end")]
    assert [m.get("more_body", False) for m in bodies] == [True, True, True, False]


async def test_an_answer_that_is_whole_with_its_head_is_one_write() -> None:
    client = Client()

    await write(Script(head=b"everything"), client)

    assert [m for m in client.messages if m["type"] == "http.response.body"] == [
        {"type": "http.response.body", "body": b"everything"}
    ]


async def test_a_head_without_bytes_writes_no_empty_chunk() -> None:
    client = Client()

    await write(Script((1, b"one"), (1, None), head=b""), client)

    assert [data for _, data in client.got] == [b"one", b""]


async def test_fifteen_seconds_of_silence_are_a_comment_of_one_line() -> None:
    client = Client()

    await write(Script((50, b"late"), (14.9, b"soon"), (1, None)), client)

    assert client.beats == [15.0, 30.0, 45.0]
    assert HEARTBEAT.startswith(b":")
    assert HEARTBEAT.count(b"\n") == 1
    assert HEARTBEAT.endswith(b"\n")
    assert client.body == b"head" + HEARTBEAT * 3 + b"latesoon"


async def test_silence_is_counted_from_the_last_bytes() -> None:
    client = Client()

    await write(Script((10, b"a"), (10, b"b"), (16, b"c"), (1, None)), client)

    assert client.beats == [35.0]


async def test_no_heartbeat_comes_while_a_write_is_in_progress() -> None:
    client = Client(seconds=100)

    await write(Script((1, b"a"), (1, None)), client)

    assert client.beats == []


async def test_silence_before_a_slow_write_and_after_it_is_not_added_up() -> None:
    client = Client(seconds=10)

    await write(Script((10, b"a"), (10, b"b"), (10, None)), client)

    assert client.beats == []


async def test_a_heartbeat_that_is_still_being_sent_is_not_followed_by_another_and_nothing_spins() -> None:
    client = Client(seconds=70)
    turns = 0
    loop: Any = asyncio.get_running_loop()
    real = loop.call_later

    def counting(*args: Any, **options: Any) -> asyncio.TimerHandle:
        nonlocal turns
        turns += 1
        assert turns < 100, "it spins"
        timer: asyncio.TimerHandle = real(*args, **options)
        return timer

    heartbeat = Heartbeat(client.send)
    loop.call_later = counting
    async with heartbeat:
        heartbeat.waiting()
        await asyncio.sleep(100)
    del loop.call_later

    assert client.beats == [15.0, 90.0]


async def test_none_is_left_after_the_end() -> None:
    client = Client(seconds=3)
    async with leak_check():
        async with Heartbeat(client.send) as heartbeat:
            heartbeat.waiting()
            await asyncio.sleep(16)
        assert client.beats == [15.0]
        ended = now()
        await asyncio.sleep(100)
        await settle()

    assert client.beats == [15.0]
    assert ended == 16.0  # the one that was being sent is cancelled


async def test_a_heartbeat_that_cannot_be_sent_is_no_error_of_its_own() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    client = Client(failing=True)

    await write(Script((40, b"late"), (1, None)), client)

    assert client.beats == [15.0, 30.0]
    assert client.body.endswith(b"late")
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("seconds", [0.0, 5.0])
async def test_an_upstream_that_breaks_is_told_after_what_came_and_leaves_no_heartbeat(seconds: float) -> None:
    client = Client(seconds=seconds)

    with pytest.raises(UpstreamError):
        await write(Script((1, b"a"), (16, BROKEN)), client)

    assert client.body == b"heada" + HEARTBEAT
    assert "more_body" in client.messages[-1]
    await asyncio.sleep(100)
    assert client.body == b"heada" + HEARTBEAT


async def test_a_cancelled_writer_leaves_no_heartbeat() -> None:
    client = Client(seconds=5)
    task = asyncio.ensure_future(write(Script((100, b"never"), (1, None)), client))
    await asyncio.sleep(22)
    assert client.beats == [20.0]

    task.cancel()
    await asyncio.sleep(100)

    assert task.cancelled()
    assert client.beats == [20.0]


async def test_a_beat_comes_though_its_time_less_the_time_that_has_gone_is_no_step_of_the_clock() -> None:
    """15 s after 8.062 s are, in floats, not quite 15 s later: what is left moves no clock, and a beat that asked for it would spin."""
    client, start = Client(), now()

    async with Heartbeat(client.send) as heartbeat:
        await asyncio.sleep(8.062 + start - now())
        heartbeat.waiting()
        async with asyncio.timeout(20.0):
            while not client.beats:
                await asyncio.sleep(0.5)

    assert client.beats == [pytest.approx(start + 8.062 + 15.0)]
