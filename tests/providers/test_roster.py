"""The roster with real subtrees on virtual time: it fills ``providers``, renews one on request, and brings back what was given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from attrs import define

from runestone.config.live import Live
from runestone.config.settings import ServerSettings, Settings
from runestone.providers import names
from runestone.providers.memory import ProviderMemory
from runestone.providers.messages import Exhausted, Lease
from runestone.providers.provider import SetAdminState
from runestone.providers.roster import RestartProvider, Roster
from runestone.resilience.breaker import Breaker
from runestone.telemetry.bus import Bus
from supervisors import (
    ActorExited,
    ActorRef,
    ChildSpec,
    Done,
    DynamicSupervisor,
    Process,
    Registry,
    StartFailed,
    Supervisor,
    start,
)
from supervisors.testing import Recorder, VirtualTimeLoop, crash, leak_check, settle
from tests.support.fleet import LastResort, acquire, failure, provider, release

pytestmark = pytest.mark.anyio
LIVE = Live(Settings(server=ServerSettings(admin_socket=Path("unused"))))
PATIENCE = [5, 10, 20, 40, 80, 160, 300, 300]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


def now() -> float:
    return asyncio.get_running_loop().time()


@define(eq=False)
class Node:
    """A running fleet as in the gateway's tree, and verbs for what happens to it."""

    memories: dict[str, ProviderMemory]
    registry: Registry
    root: ActorRef

    def lookup(self, name: str) -> ActorRef | None:
        return self.registry.lookup(name)

    def ref(self, name: str) -> ActorRef:
        ref = self.registry.lookup(name)
        assert ref is not None, name
        return ref

    def there(self, name: str = "a") -> bool:
        return self.lookup(names.subtree(name)) is not None

    async def restart(self, name: str = "a", *, hard: bool = False) -> Done | StartFailed:
        return await self.registry.via(names.ROSTER).call(RestartProvider(name, hard), timeout=None)

    async def crash(self, name: str) -> None:
        crash(self.ref(name), RuntimeError("a bug"))
        await settle()

    async def give_up(self, name: str = "a") -> None:
        """Crash it until its supervisor does."""
        while self.there(name):
            await self.crash(names.provider(name))

    async def return_of(self, name: str = "a", *, step: float = 0.5) -> float:
        """Seconds until it serves again."""
        since = now()
        while not isinstance(await self.ask(name), Lease):
            assert now() - since < 10_000
            await asyncio.sleep(step)
            await settle()
        return now() - since

    async def ask(self, name: str = "a") -> Lease | None:
        """A lease that is given back at once, or ``None`` where none is to be had."""
        ref = self.lookup(names.provider(name))
        if ref is None or ref.process.mailbox is None:
            return None
        answer = await self.registry.via(names.provider(name)).call(acquire(name))
        if isinstance(answer, Exhausted):
            return None
        assert isinstance(answer, Lease)
        answer.release("neutral")
        await settle()
        return answer

    async def fails(self, name: str = "a", times: int = 3) -> None:
        for _ in range(times):
            answer = await self.registry.via(names.provider(name)).call(acquire(name))
            assert isinstance(answer, Lease)
            release(answer, failure())
        await settle()

    def squat(self, name: str) -> Process:
        """Somebody else takes ``name``, so that its owner cannot start."""
        process = Process(self.root.process.system, "squatter", parent=None)
        self.registry.register(name, ActorRef(process))
        return process

    def leave(self, squatter: Process) -> None:
        self.registry.unregister(next(n for n, r in self.registry.names().items() if r.process is squatter))


@asynccontextmanager
async def fleet(*members: str, before: Callable[[Registry], object] = lambda _: None) -> AsyncIterator[Node]:
    memories = {n: ProviderMemory(settings=(s := provider(n)), breaker=Breaker.new(s.breaker)) for n in members}
    registry = Registry()
    children = [
        ChildSpec(id="providers", start=partial(Supervisor, ()), type="supervisor", name=names.PROVIDERS),
        ChildSpec(id="roster", start=partial(Roster, memories, registry, Bus(), lambda: 0.5, LIVE), name=names.ROSTER),
    ]
    rest = [
        ChildSpec(
            id="fleet",
            start=partial(Supervisor, children, strategy="rest_for_one", max_restarts=1000),
            type="supervisor",
        ),
        ChildSpec(id="failover", start=LastResort, name=names.FAILOVER),
        ChildSpec(id="requests", start=DynamicSupervisor, type="supervisor", name=names.REQUESTS),
    ]
    before(registry)
    async with leak_check():
        root = await start(partial(Supervisor, rest), registry=registry, observers=[Recorder()])
        try:
            yield Node(memories, registry, root)
        finally:
            await root.stop()


# -- it fills providers ----------------------------------------------------------------------------------------------------


async def test_every_provider_has_a_transport_an_actor_and_a_prober_under_a_supervisor_of_its_own() -> None:
    async with fleet("a", "b", "c") as node:
        children = await node.registry.via(names.PROVIDERS).which_children()

        assert [(child.id, child.state, child.type) for child in children] == [
            (name, "running", "supervisor") for name in "abc"
        ]
        for name in "abc":
            assert [c.id for c in await node.ref(names.subtree(name)).which_children()] == [
                "transport",
                "provider",
                "prober",
            ]
            lease = await node.ask(name)
            assert lease is not None
            assert lease.transport is node.memories[name].transport


async def test_a_crash_of_the_roster_leaves_the_providers_alone_and_it_goes_on_watching() -> None:
    async with fleet("a", "b") as node:
        before = {
            name: ref for name, ref in node.registry.names().items() if name.startswith(("provider", "transport"))
        }

        await node.crash(names.ROSTER)

        assert node.ref(names.ROSTER).incarnation == 2
        assert {name: node.lookup(name) for name in before} == before
        await node.give_up("a")
        assert await node.return_of("a") == 5.0


async def test_a_crash_of_providers_brings_all_of_them_back() -> None:
    async with fleet("a", "b") as node:
        await node.fails()

        await node.crash(names.PROVIDERS)

        assert [child.state for child in await node.registry.via(names.PROVIDERS).which_children()] == ["running"] * 2
        assert node.memories["a"].breaker.name(now()) == "open"
        assert await node.ask("b") is not None


# -- a restart -------------------------------------------------------------------------------------------------------------


async def test_a_restart_is_a_clean_slate_with_the_same_connections_and_the_leases_kept() -> None:
    async with fleet("a", "b") as node:
        memory, b = node.memories["a"], node.ref(names.provider("b"))
        lease = await node.registry.via(names.provider("a")).call(acquire())
        await node.fails()
        before = memory.transport

        assert await node.restart() == Done()

        assert (memory.incarnation, memory.breaker.name(now()), memory.score(now())) == (2, "closed", 1.0)
        assert memory.transport is before
        assert isinstance(lease, Lease)
        assert list(memory.leases) == [lease.id]
        assert node.ref(names.provider("b")) == b
        release(lease)
        await settle()
        assert memory.leases == {}


async def test_a_hard_restart_replaces_the_connections_too_and_the_old_ones_take_nothing_more() -> None:
    async with fleet("a") as node:
        memory = node.memories["a"]
        before, tree = memory.transport, node.ref(names.subtree("a"))

        assert await node.restart(hard=True) == Done()

        assert (memory.incarnation, memory.transport is before) == (2, False)
        assert before is not None
        assert before._connector.closed
        assert node.ref(names.subtree("a")) == tree
        assert (await node.ask()) is not None


async def test_several_restarts_at_once_each_have_their_turn() -> None:
    async with fleet("a", "b") as node:
        answers = await asyncio.gather(*(node.restart(hard=hard) for hard in (False, True, False)), node.restart("b"))

        assert answers == [Done()] * 4
        assert (node.memories["a"].incarnation, node.memories["b"].incarnation) == (4, 2)
        await node.restart()
        assert node.memories["a"].incarnation == 5


async def test_a_caller_that_leaves_takes_nobodys_turn() -> None:
    async with fleet("a") as node:
        first, second = asyncio.create_task(node.restart()), asyncio.create_task(node.restart())
        await asyncio.sleep(0)
        first.cancel()

        assert await second == Done()
        assert node.memories["a"].incarnation == 3


async def test_a_restart_is_no_crash_however_often() -> None:
    async with fleet("a") as node:
        for _ in range(10):
            await node.restart(hard=True)

        assert node.ref(names.subtree("a")).incarnation == 1
        await node.fails()
        await node.crash(names.provider("a"))
        assert node.memories["a"].breaker.name(now()) == "open"


async def test_a_crash_of_the_transport_costs_new_connections_and_nothing_else() -> None:
    async with fleet("a") as node:
        memory, actor = node.memories["a"], node.ref(names.provider("a"))
        before = memory.transport
        await node.fails()

        await node.crash(names.transport("a"))

        assert (memory.transport is before, node.ref(names.provider("a")), memory.breaker.name(now())) == (
            False,
            actor,
            "open",
        )
        assert before is not None
        assert before._connector.closed


# -- one that gives up -----------------------------------------------------------------------------------------------------


async def test_one_that_crashes_too_often_is_down_alone_and_returns_fresh() -> None:
    async with fleet("a", "b") as node:
        b = node.ref(names.provider("b"))
        await node.fails()

        await node.give_up()

        assert node.memories["a"].transport is None
        assert node.ref(names.provider("b")) == b
        assert await node.return_of() == 5.0
        assert (node.memories["a"].breaker.name(now()), node.memories["a"].score(now())) == ("closed", 1.0)
        assert node.ref(names.provider("b")) == b


async def test_its_patience_doubles_up_to_five_minutes() -> None:
    async with fleet("a") as node:
        waits = []
        for _ in PATIENCE:
            await node.give_up()
            waits.append(await node.return_of())

        assert waits == PATIENCE


async def test_its_patience_starts_again_after_it_has_been_steady_for_a_minute() -> None:
    async with fleet("a") as node:
        waits = []
        for steady in (0, 59, 0, 61, 0):
            await asyncio.sleep(steady)
            await node.give_up()
            waits.append(await node.return_of())

        assert waits == [5, 10, 20, 5, 10]


async def test_the_patience_with_one_is_not_that_with_another() -> None:
    async with fleet("a", "b") as node:
        for _ in range(3):
            await node.give_up("a")
            await node.return_of("a")
        await node.give_up("a")
        await node.give_up("b")

        assert await node.return_of("b") == 5.0
        assert await node.return_of("a") == 35.0


async def test_an_operator_need_not_wait_and_no_second_return_follows() -> None:
    async with fleet("a") as node:
        await node.give_up()

        assert await node.restart() == Done()

        incarnation = node.memories["a"].incarnation
        assert await node.ask() is not None
        await asyncio.sleep(1000)
        assert node.memories["a"].incarnation == incarnation


async def test_a_clean_slate_after_a_crash_lets_the_next_crash_be_the_first() -> None:
    async with fleet("a") as node:
        await node.give_up()
        await node.restart()
        await node.fails()

        await node.crash(names.provider("a"))

        assert node.memories["a"].breaker.name(now()) == "open"


async def test_a_subtree_that_is_killed_is_restarted_by_its_supervisor_and_watched_again() -> None:
    async with fleet("a") as node:
        node.ref(names.subtree("a")).process.kill()
        await settle()
        assert node.ref(names.subtree("a")).incarnation == 2
        await asyncio.sleep(0.2)

        await node.give_up()

        assert await node.return_of() == 5.0


async def test_a_crash_of_the_roster_forgets_nobody_that_is_down() -> None:
    async with fleet("a") as node:
        await node.give_up()
        await asyncio.sleep(3)
        await node.crash(names.ROSTER)

        assert await node.return_of() == 5.0


@pytest.mark.parametrize("turns", range(0, 40, 2))
async def test_a_crash_of_the_roster_in_the_middle_of_a_restart_leaves_nobody_down_for_long(turns: int) -> None:
    async with fleet("a") as node:
        restart = asyncio.create_task(node.restart(hard=True))
        for _ in range(turns):  # a crash at each moment of it
            await asyncio.sleep(0)
        await node.crash(names.ROSTER)
        answer = (await asyncio.gather(restart, return_exceptions=True))[0]

        assert answer == Done() or isinstance(answer, ActorExited)
        assert await node.return_of() <= 5.0
        assert await node.restart() == Done()


async def test_a_crash_of_providers_in_the_middle_of_a_restart_is_told() -> None:
    async with fleet("a") as node:
        restart = asyncio.create_task(node.restart())
        await asyncio.sleep(0)
        await node.crash(names.PROVIDERS)
        answer = (await asyncio.gather(restart, return_exceptions=True))[0]

        assert answer == Done() or isinstance(answer, ActorExited)
        assert await node.ask() is not None


# -- starts that fail ------------------------------------------------------------------------------------------------------


async def test_one_that_cannot_start_at_first_hinders_nobody_and_comes_as_soon_as_it_can() -> None:
    held: list[Process] = []
    async with fleet("a", "b", before=lambda registry: held.append(_squatter(registry))) as node:
        assert await node.ask("b") is not None
        assert not node.there("a")
        assert isinstance(await node.restart("a"), StartFailed)

        node.leave(held[0])

        assert await node.return_of("a") <= 10.0
        assert len(await node.registry.via(names.PROVIDERS).which_children()) == 2


def _squatter(registry: Registry) -> Process:
    from supervisors.system import System

    process = Process(System(registry=registry), "squatter", parent=None)
    registry.register(names.transport("a"), ActorRef(process))
    return process


async def test_a_return_that_fails_is_tried_again_with_patience() -> None:
    async with fleet("a") as node:
        await node.give_up()
        squatter = node.squat(names.transport("a"))
        await asyncio.sleep(5 + 10 + 20 + 40 + 1)
        assert not node.there()

        node.leave(squatter)

        assert await node.return_of() == 79.0


async def test_one_whose_start_never_succeeds_is_not_steady_however_long_it_is_down() -> None:
    async with fleet("a") as node:
        await asyncio.sleep(100)
        await node.give_up()
        node.squat(names.provider("a"))
        starts: list[float] = []
        node.registry.listen(_Listener(node.registry, lambda: starts.append(now())))
        begin = now()
        await asyncio.sleep(1000)

        assert [at - begin for at in starts] == [5, 15, 35, 75, 155, 315, 615, 915]
        node.registry.unregister(names.provider("a"))


class _Listener(ActorRef):
    """Notes each try to start the subtree, by its name."""

    __slots__ = ("_note",)

    def __init__(self, registry: Registry, note: Callable[[], object]) -> None:
        super().__init__(registry.via(names.ROSTER).resolve())  # type: ignore[arg-type]  # somebody is there
        self._note = note

    def send(self, info: object) -> None:
        if type(info).__name__ == "Registered" and getattr(info, "name", "") == names.subtree("a"):
            self._note()


@pytest.mark.parametrize("child", ["transport", "provider"])
async def test_a_restart_whose_start_fails_says_so_and_is_made_up_for(child: str) -> None:
    async with fleet("a") as node:
        name = f"{child}:a"
        held: list[Process] = []
        node.ref(name).process.on_exit(lambda *_: held.append(node.squat(name)))

        failed = await node.restart(hard=True)

        assert isinstance(failed, StartFailed)
        assert await node.ask() is None
        await asyncio.sleep(100)
        assert await node.ask() is None
        node.leave(held[0])
        assert await node.return_of() <= 80.0
        assert node.ref(names.subtree("a")).incarnation == 1


@pytest.mark.parametrize("hard", [False, True])
async def test_a_restart_leaves_what_an_operator_has_taken_out_of_service_there(*, hard: bool) -> None:
    async with fleet("a") as node:
        await node.registry.via(names.provider("a")).call(SetAdminState("maintenance"))
        assert await node.restart(hard=hard) == Done()
        await node.crash(names.provider("a"))
        await node.give_up()
        await asyncio.sleep(10)

        assert node.there()
        assert await node.ask() is None
        assert node.memories["a"].admin_state == "maintenance"
        await node.registry.via(names.provider("a")).call(SetAdminState("ready"))
        assert isinstance(await node.ask(), Lease)
