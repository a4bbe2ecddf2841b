"""The phase of a node on virtual time: a drain that has waited long enough ends what is in flight by its own deadline."""

from __future__ import annotations

import asyncio

import pytest

from runestone.domain.errors import DeadlineExceeded, Draining
from runestone.gateway import Phase
from supervisors.testing import VirtualTimeLoop, settle

pytestmark = pytest.mark.anyio
FAR = 1000.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


async def ended_after(phase: Phase, deadline: float) -> float:
    """Serve a request that never ends by itself; when its deadline has come, in seconds of the loop."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(TimeoutError):
        async with phase.request(start + deadline):
            await asyncio.Event().wait()
    return loop.time() - start


async def test_a_drain_that_is_cut_short_brings_every_deadline_forward_to_now() -> None:
    phase = Phase()
    requests = [asyncio.ensure_future(ended_after(phase, FAR * n)) for n in (1, 2)]
    await asyncio.sleep(5.0)
    phase.drain()
    assert await phase.idle(7.0) is False

    phase.cut_short()
    assert await phase.idle(2.0) is True

    assert await asyncio.gather(*requests) == [12.0, 12.0]
    assert isinstance(phase.expired(), Draining)


async def test_a_drain_that_waits_still_leaves_deadlines_as_they_were() -> None:
    phase = Phase()
    request = asyncio.ensure_future(ended_after(phase, FAR))
    await settle()

    phase.drain()

    assert await request == FAR
    assert isinstance(phase.expired(), DeadlineExceeded)
