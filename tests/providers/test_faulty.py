"""A fault in front of a provider, at the bytes of its answers: what comes before it strikes is exactly what it says, however it is cut up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.domain.failure import Failure, UpstreamError
from runestone.domain.faults import NONE, Draw, Fault, differences, parse
from runestone.providers.faulty import FaultyStream, Front
from runestone.providers.stream import UpstreamStream
from supervisors.testing import VirtualTimeLoop

EVENTS = [b"event: a\ndata: 1\n\n", b"data: 2\r\n\r\n", b'data: {"x": "y"}\n\n', b"data: [DONE]\n\n"]
ANSWER = b"".join(EVENTS)
STALLED = Failure(kind="idle_timeout", message="enough")
pieces = st.lists(st.integers(0, len(ANSWER)), max_size=8).map(
    lambda cuts: [ANSWER[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), len(ANSWER)], strict=True) if a < b]
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


class Given(UpstreamStream):
    """An answer in pieces."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self.closed = False
        self.failure: UpstreamError | None = None

    async def __anext__(self) -> bytes:
        for part in self._parts:
            return part
        raise StopAsyncIteration

    def fail(self, error: UpstreamError) -> None:
        self.failure = error

    async def aclose(self) -> None:
        self.closed = True


async def read(parts: Iterable[bytes], fault: str) -> tuple[bytes, str]:
    """What comes of an event stream in ``parts``, and how it ends."""
    stream, body = FaultyStream(Given(parts), parse(fault), events=True), b""
    try:
        async for data in stream:
            body += data
    except UpstreamError as error:
        return body, error.failure.kind
    return body, "end"


@given(pieces, st.integers(0, len(ANSWER)), st.sampled_from(["cut", "reset"]))
def test_so_many_bytes_come_and_then_it_breaks(parts: list[bytes], at: int, word: str) -> None:
    assert asyncio.run(read(parts, f"{word} at={at}")) == (ANSWER[:at], "truncated")


@given(pieces, st.integers(0, len(EVENTS) - 1), st.sampled_from(["cut", "reset"]))
def test_so_many_events_come_and_then_it_breaks(parts: list[bytes], after: int, word: str) -> None:
    assert asyncio.run(read(parts, f"{word} after={after}")) == (b"".join(EVENTS[:after]), "truncated")


@given(pieces, st.integers(0, len(EVENTS) - 1))
def test_an_error_comes_behind_so_many_events_and_nothing_after_it(parts: list[bytes], after: int) -> None:
    body, end = asyncio.run(read(parts, f"error_event after={after}"))

    whole = b"".join(EVENTS[:after])
    assert body.startswith(whole)
    assert (b'"error"' in body[len(whole) :], end) == (True, "truncated")


@given(pieces)
def test_what_is_broken_off_beyond_its_end_is_whole(parts: list[bytes]) -> None:
    for fault in (f"cut at={len(ANSWER) + 1}", f"cut after={len(EVENTS)}", "slow=0", "rate=1"):
        assert asyncio.run(read(parts, fault)) in ((ANSWER, "end"), (ANSWER, "truncated"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ("slow=0.5", 0.5 * len(ANSWER)),
        ("pace=2", 2.0 * (len(EVENTS) - 1)),
        ("slow_first_token=9", 9.0),
        ("slow_first_token=9 pace=1", 9.0 + len(EVENTS) - 1),
    ],
)
async def test_slow_as_it_is_nothing_is_lost(fault: str, seconds: float) -> None:
    began = anyio.current_time()

    assert await read([ANSWER[:7], ANSWER[7:]], fault) == (ANSWER, "end")
    assert anyio.current_time() - began == pytest.approx(seconds)


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["stall at=5", "stall after=1", "slow_first_token=100", "slow=100"])
async def test_whoever_has_had_enough_of_waiting_ends_it(fault: str) -> None:
    inner = Given([ANSWER])
    stream = FaultyStream(inner, parse(fault), events=True)

    async def enough() -> None:
        await anyio.sleep(3)
        stream.fail(UpstreamError(STALLED))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enough)
        with pytest.raises(UpstreamError) as raised:
            async for _ in stream:
                pass
    await stream.aclose()

    assert raised.value.failure == STALLED
    assert (anyio.current_time() >= 3, inner.failure, inner.closed) == (True, raised.value, True)


def test_none_is_no_fault() -> None:
    assert Front.saying("none") is None
    assert Front.saying("  ") is None


@given(st.floats(0, 1), st.integers(0, 2**32))
def test_a_seed_draws_the_same_calls_each_time(rate: float, seed: int) -> None:
    def drawn() -> list[Fault]:
        draw = Draw(parse(f"503 rate={rate} seed={seed}"), random.Random(seed).random)
        return [draw.next() for _ in range(20)]

    assert drawn() == drawn()


@given(st.integers(0, 5))
def test_a_count_is_used_up(times: int) -> None:
    draw = Draw(parse(f"503 times={times}"), lambda: 0.0)

    assert [draw.next() != NONE for _ in range(6)] == [True] * times + [False] * (6 - times)


def test_what_a_fault_says_is_told_by_name() -> None:
    assert differences(parse("429 retry_after=5 30%")) == ["status", "retry_after", "rate"]
    assert differences(NONE) == []
