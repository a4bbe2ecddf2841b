"""One exchange with a client: what may still be said, and when."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from runestone.domain.errors import DeadlineExceeded
from runestone.http.exchange import Exchange
from runestone.telemetry.bus import Bus

pytestmark = pytest.mark.anyio
LATE = DeadlineExceeded("too late")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def exchange(sent: list[Message], *, stream: bool) -> Exchange:
    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    made = Exchange({"method": "POST", "path": "/v1/chat/completions", "headers": []}, receive, send, Bus())
    made.stream = stream
    return made


@pytest.mark.parametrize("stream", [True, False])
async def test_after_the_last_byte_no_error_is_told_though_its_client_is_so_slow_that_the_deadline_passes(
    stream: bool,
) -> None:
    sent: list[Message] = []
    one = exchange(sent, stream=stream)
    await one.send({"type": "http.response.start", "status": 200, "headers": []})
    await one.send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
    before = list(sent)

    await one.tell(LATE)

    assert sent == before


async def test_before_the_last_byte_an_error_is_told_in_the_stream_and_ends_it() -> None:
    sent: list[Message] = []
    one = exchange(sent, stream=True)
    await one.send({"type": "http.response.start", "status": 200, "headers": []})

    await one.tell(LATE)

    assert b"deadline_exceeded" in sent[-1]["body"]
    assert not sent[-1].get("more_body")


async def test_an_answer_in_one_piece_that_breaks_off_gets_no_end() -> None:
    sent: list[Message] = []
    one = exchange(sent, stream=False)
    await one.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    before = list(sent)

    await one.tell(LATE)

    assert sent == before


async def test_an_answer_whose_client_is_slow_to_take_the_head_is_whole_though_its_time_is_over() -> None:
    sent: list[Message] = []
    one = exchange(sent, stream=False)

    async def slow(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.start":
            await asyncio.Event().wait()

    one.send_raw = slow
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await one.answer(200, [(b"content-length", b"5")], b"whole")
    await one.tell(LATE)

    assert [message.get("body") for message in sent] == [None, b"whole"]
    assert one.complete


async def test_before_the_head_an_error_is_raised_for_the_front_to_answer() -> None:
    with pytest.raises(DeadlineExceeded):
        await exchange([], stream=True).tell(LATE)
