"""The level of the log that holds for a while, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from attrs import define

from runestone.telemetry.level import HoldLevel, Levels, LogLevel, ReleaseLevel
from supervisors import ActorRef, Call, ChildSpec, Registry, Supervisor, start
from supervisors.testing import VirtualTimeLoop, crash, leak_check, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


@define(eq=False)
class Log:
    """A log whose level is ``put`` last, and the actor that owns the time of another one."""

    levels: Levels
    put: list[str]
    registry: Registry

    @property
    def ref(self) -> ActorRef:
        ref = self.registry.lookup("log")
        assert ref is not None
        return ref

    async def tell(self, message: Call[None]) -> None:
        await self.registry.via("log").call(message)


@asynccontextmanager
async def log() -> AsyncIterator[Log]:
    registry, put = Registry(), ["INFO"]
    levels = Levels(put.append, "INFO")
    spec = ChildSpec(id="log", start=partial(LogLevel, levels), name="log")
    async with leak_check():
        root = await start(partial(Supervisor, [spec]), registry=registry)
        try:
            yield Log(levels, put, registry)
        finally:
            await root.stop()


async def test_a_level_for_a_while_ends_by_itself() -> None:
    async with log() as one:
        await one.tell(HoldLevel("DEBUG", 600.0))
        await asyncio.sleep(599)
        assert (one.put[-1], one.levels.level) == ("DEBUG", "DEBUG")

        await asyncio.sleep(2)

        assert one.put == ["INFO", "DEBUG", "INFO"]
        assert one.levels.for_now is None


async def test_a_second_one_takes_the_place_of_the_first_and_of_its_time() -> None:
    async with log() as one:
        await one.tell(HoldLevel("DEBUG", 10.0))
        await one.tell(HoldLevel("WARNING", 100.0))
        await asyncio.sleep(99)
        assert one.put == ["INFO", "DEBUG", "WARNING"]

        await asyncio.sleep(2)

        assert one.put[-1] == "INFO"


async def test_what_the_settings_say_meanwhile_holds_afterwards() -> None:
    async with log() as one:
        await one.tell(HoldLevel("DEBUG", 10.0))
        one.levels.settle("ERROR")
        assert one.levels.level == one.put[-1] == "DEBUG"

        await asyncio.sleep(11)

        assert one.levels.level == one.put[-1] == "ERROR"


async def test_it_is_let_go_before_its_time_and_never_again_after() -> None:
    async with log() as one:
        await one.tell(HoldLevel("DEBUG", 10.0))
        await one.tell(ReleaseLevel())
        assert one.put[-1] == "INFO"

        await asyncio.sleep(11)

        assert one.put == ["INFO", "DEBUG", "INFO"]


async def test_a_crash_of_the_actor_changes_nothing_of_it() -> None:
    async with log() as one:
        await one.tell(HoldLevel("DEBUG", 20.0))
        await asyncio.sleep(10)
        crash(one.ref, RuntimeError("a bug"))
        await settle()
        assert one.levels.level == one.put[-1] == "DEBUG"

        await asyncio.sleep(11)

        assert one.levels.level == one.put[-1] == "INFO"
