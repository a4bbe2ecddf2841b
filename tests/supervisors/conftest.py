"""Every asynchronous test runs on a loop whose clock jumps, and leaves nothing behind."""

from __future__ import annotations

import pytest

from supervisors.testing import VirtualTimeLoop
from tests.supervisors.actors import Trace


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Virtual time, asyncio only."""
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


@pytest.fixture
def trace() -> Trace:
    """What the children of one test did, in order."""
    return Trace()
