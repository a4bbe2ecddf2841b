"""The watch over a silent stream, on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from runestone.domain.failure import UpstreamError
from runestone.failover.idle import IdleWatch
from runestone.providers.stream import UpstreamStream
from supervisors.testing import VirtualTimeLoop, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


class Silent(UpstreamStream):
    """Says nothing, and keeps when and with what it was made to fail."""

    def __init__(self) -> None:
        self.failed: list[tuple[float, str]] = []

    def fail(self, error: UpstreamError) -> None:
        self.failed.append((asyncio.get_running_loop().time(), error.failure.kind))


@pytest.mark.parametrize("began", [0.0, 0.085, 1.102 - 0.5, 2.5])
async def test_a_read_fails_once_it_has_waited_its_time_whatever_the_clock_reads(began: float) -> None:
    """At 0.085 s, half a second later is 0.585 s, of which half a second has not quite gone by in floats: the rest moves no clock."""
    loop, stream = asyncio.get_running_loop(), Silent()
    start = loop.time()
    watch = IdleWatch(loop, stream, 0.5, "a")
    await asyncio.sleep(start + began - loop.time())
    watch.reading()

    async with asyncio.timeout(5.0):
        while not stream.failed:
            await asyncio.sleep(0.1)

    [(at, kind)] = stream.failed
    assert at == pytest.approx(start + began + 0.5)
    assert kind == "idle_timeout"
    watch.stop()


async def test_a_stream_that_nobody_reads_is_not_idle() -> None:
    loop, stream = asyncio.get_running_loop(), Silent()
    watch = IdleWatch(loop, stream, 0.5, "a")

    await asyncio.sleep(10.0)
    watch.reading()
    watch.pause()
    await asyncio.sleep(10.0)

    assert stream.failed == []
    watch.stop()


async def test_a_timer_that_fires_a_step_of_the_clock_early_does_not_spin_until_the_clock_has_moved() -> None:
    """A busy loop whose clock stands still, as virtual time does while anything is ready."""
    loop, stream = asyncio.get_running_loop(), Silent()
    began = loop.time()
    watch = IdleWatch(loop, stream, 0.5, "a")
    watch.reading()

    await asyncio.sleep(0.5 - 1e-10)
    await settle()

    assert [kind for _, kind in stream.failed] == ["idle_timeout"]
    assert loop.time() - began < 0.5
    watch.stop()
