"""Fixtures: one simulated provider per test, on the loop of the standard library or on the gateway's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.simulated.running import Running, running

# Generated examples have no time limit: a busy machine is no failure.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def sim() -> Iterator[Running]:
    """A provider without faults."""
    with running() as it:
        yield it


@pytest.fixture(params=["asyncio", "uvloop"])
def any_sim(request: pytest.FixtureRequest) -> Iterator[Running]:
    """The same on either loop."""
    with running(loop=request.param) as it:
        yield it
