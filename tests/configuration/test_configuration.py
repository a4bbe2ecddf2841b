"""The configuration actor with a real fleet, on virtual time: what a change does, what a refusal leaves, and what a crash in the middle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from runestone.config.build import build
from runestone.config.inherited import Difference
from runestone.config.live import Live
from runestone.config.load import Sources, read
from runestone.config.settings import LedgerSettings, LogSettings, ProviderSettings, ServerSettings, Settings
from runestone.configuration import (
    Alter,
    Changed,
    Configuration,
    Edit,
    Members,
    Memory,
    Rejected,
    Reload,
    Steps,
    TakeOut,
    Unfinished,
    lasting,
    steps_between,
)
from runestone.domain.secret import Secret
from runestone.failover.router import FailoverRouter
from runestone.providers import names
from runestone.providers.memory import ProviderMemory
from runestone.providers.messages import Lease
from runestone.providers.provider import TripBreaker
from runestone.providers.roster import Roster
from runestone.resilience.breaker import Breaker
from runestone.telemetry.actor import Looks, Telemetry
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import Retry
from runestone.telemetry.metrics import Metrics
from supervisors import ActorError, ActorRef, ChildSpec, Process, Registry, Supervisor, start
from supervisors.introspection import resume, suspend
from supervisors.testing import VirtualTimeLoop, crash, leak_check, settle
from tests.support.fleet import acquire

pytestmark = pytest.mark.anyio
KEYS = {"OPENAI_API_KEY": "sk-a", "ANTHROPIC_API_KEY": "sk-b", "RUNESTONE_ADMIN_SOCKET": "/nowhere"}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


@define(eq=False)
class Node:
    """A running fleet under a configuration, and verbs for what is changed."""

    environ: dict[str, str]
    memory: Memory
    memories: dict[str, ProviderMemory]
    metrics: Metrics
    registry: Registry
    levels: list[str]
    bus: Bus
    root: ActorRef

    def ref(self, name: str) -> ActorRef:
        ref = self.registry.lookup(name)
        assert ref is not None, name
        return ref

    async def alter(self, *edits: Edit) -> Changed | Rejected:
        return await self.registry.via(names.CONFIGURATION).call(Alter(edits), timeout=None)

    async def reload(self, **environ: str) -> Changed | Rejected:
        self.environ.update(environ)
        return await self.registry.via(names.CONFIGURATION).call(Reload(), timeout=None)

    def incarnations(self) -> dict[str, int]:
        return {name: memory.incarnation for name, memory in self.memories.items()}


@asynccontextmanager
async def node(**more: str) -> AsyncIterator[Node]:
    environ = {**KEYS, **more}

    def sources() -> Sources:
        return read(environ)

    loaded = build(sources(), {})
    live = Live(loaded.settings)
    memory = Memory(read=sources, sources=sources(), live=live, loaded=loaded)
    memories = {p.name: ProviderMemory(settings=p, breaker=Breaker.new(p.breaker)) for p in live.settings.providers}
    registry, bus, metrics, levels = Registry(), Bus(), Metrics(), list[str]()
    chance = lambda: 0.5  # noqa: E731 - always the same

    def models() -> dict[str, tuple[str, ...]]:
        return {name: (str(m.settings.default_model),) for name, m in memories.items()}

    children = [
        ChildSpec(id="telemetry", start=partial(Telemetry, bus, metrics, Looks(providers=models)), name=names.TELEMETRY),
        ChildSpec(id="providers", start=partial(Supervisor, ()), type="supervisor", name=names.PROVIDERS),
        ChildSpec(id="roster", start=partial(Roster, memories, registry, bus, chance, live), name=names.ROSTER),
        ChildSpec(id="failover", start=lambda: FailoverRouter(live.settings, memories, registry, bus, chance), name=names.FAILOVER),
        ChildSpec(id="configuration", start=partial(Configuration, memory, memories, registry, levels.append, bus), name=names.CONFIGURATION),
    ]  # fmt: skip
    async with leak_check():
        root = await start(partial(Supervisor, children, max_restarts=100), registry=registry)
        try:
            await settle()
            yield Node(environ, memory, memories, metrics, registry, levels, bus, root)
        finally:
            await root.stop()
            await settle()


def provider(kind: str = "openai", **options: Any) -> dict[str, Any]:
    return {"kind": kind, "api_key": Secret("sk-x"), **options}


async def test_a_change_of_one_provider_restarts_it_alone_and_keeps_what_it_knows() -> None:
    async with node() as one:
        await one.registry.via(names.provider("openai-default")).call(TripBreaker())
        transport = one.memories["openai-default"].transport
        done = await one.reload(OPENAI_TIMEOUT="7s")

        assert isinstance(done, Changed)
        assert done.done == ("provider openai-default: restarted",)
        assert one.incarnations() == {"openai-default": 2, "anthropic-default": 1}
        memory = one.memories["openai-default"]
        assert (memory.settings.timeout_seconds, memory.breaker.name(0.0), memory.transport) == (7.0, "open", transport)


async def test_another_place_or_another_key_is_a_clean_slate_with_new_connections() -> None:
    async with node() as one:
        for variable, value in (("OPENAI_BASE_URL", "http://127.0.0.1:9/v1"), ("OPENAI_API_KEY", "sk-new")):
            await one.registry.via(names.provider("openai-default")).call(TripBreaker())
            transport = one.memories["openai-default"].transport
            await one.reload(**{variable: value})

            memory = one.memories["openai-default"]
            assert memory.breaker.name(0.0) == "closed"
            assert memory.transport is not transport is not None


async def test_a_new_connect_timeout_gives_every_provider_new_connections() -> None:
    async with node() as one:
        transports = {name: memory.transport for name, memory in one.memories.items()}
        done = await one.reload(RUNESTONE_CONNECT_TIMEOUT_MS="100")

        assert isinstance(done, Changed)
        assert set(done.done) == {f"provider {name}: restarted" for name in transports} | {"timeouts: changed"}
        assert all(one.memories[name].transport is not transport for name, transport in transports.items())


async def test_traces_need_a_restart() -> None:
    async with node() as one:
        done = await one.reload(RUNESTONE_TRACES_ENABLED="true", RUNESTONE_TRACES_PROPAGATE="true")

        assert isinstance(done, Changed)
        assert (done.done, done.needs_restart) == ((), ("traces.enabled", "traces.propagate"))
        assert not one.memory.live.settings.traces.propagate


async def test_another_ledger_needs_a_restart_and_how_often_it_is_written_does_not() -> None:
    async with node() as one:
        before = one.memory.live.settings.ledger.url
        done = await one.reload(RUNESTONE_LEDGER_URL="sqlite:///tmp/other", RUNESTONE_LEDGER_INTERVAL_MS="50")

        assert isinstance(done, Changed)
        assert (done.done, done.needs_restart) == (("ledger: changed",), ("ledger.url",))
        assert one.memory.live.settings.ledger == LedgerSettings(url=before, interval_seconds=0.05)


async def test_the_log_level_changes_at_once_and_ports_need_a_restart() -> None:
    async with node() as one:
        done = await one.reload(RUNESTONE_LOG_LEVEL="debug", RUNESTONE_PORT="5001", RUNESTONE_LOG_FORMAT="json")

        assert isinstance(done, Changed)
        assert one.levels == ["DEBUG"]
        assert done.needs_restart == ("server.port", "log.format")
        assert one.memory.live.settings.server.port == 4003
        assert one.incarnations() == {"openai-default": 1, "anthropic-default": 1}


async def test_what_happened_before_a_change_is_heard_of_under_the_settings_that_were() -> None:
    async with node() as one:
        heard = list[str]()
        one.bus.subscribe_later(lambda *_: heard.append(one.memory.live.settings.logs.level), {Retry})

        for level in ("debug", "error"):
            one.bus.emit(Retry(provider="a", reason="timeout"))
            assert isinstance(await one.reload(RUNESTONE_LOG_LEVEL=level), Changed)

        assert heard == ["INFO", "DEBUG"]


async def test_a_change_that_is_wrong_is_refused_whole_and_remembered() -> None:
    async with node() as one:
        before = one.memory.live.settings
        good = Edit(path=("providers", "x"), value=provider(), when="new")
        refused = await one.alter(good, Edit(path=("retry", "max_attempts"), value=0))

        assert isinstance(refused, Rejected)
        assert (refused.reason, len(refused.problems)) == ("invalid", 1)
        assert one.memory.live.settings is before
        assert one.memory.last_rejection is refused
        assert set(one.memories) == {"openai-default", "anthropic-default"}

        reloaded = await one.reload(RETRY_MAX_ATTEMPTS="nonsense")
        assert isinstance(reloaded, Rejected)
        assert one.memory.live.settings is before


async def test_what_became_of_the_last_reload_is_known_until_the_next_one() -> None:
    async with node() as one:
        started = one.memory.last_reload
        assert (started.refused, abs(started.taken_at - time.time()) < 60) == (None, True)

        refused = await one.reload(RETRY_MAX_ATTEMPTS="nonsense")
        assert one.memory.last_reload.refused is refused
        assert one.memory.last_reload.taken_at == started.taken_at
        await one.alter(Edit(path=("retry", "max_attempts"), value=0))
        assert one.memory.last_reload.refused is refused  # what was altered was never in the file

        await one.reload(RETRY_MAX_ATTEMPTS="3")
        taken = one.memory.last_reload
        assert (taken.refused, taken.taken_at > started.taken_at) == (None, True)


async def test_providers_and_groups_must_be_there_or_must_not() -> None:
    async with node() as one:
        answers = [
            await one.alter(Edit(path=("providers", "openai-default"), value=provider(), when="new")),
            await one.alter(Edit(path=("providers", "nobody", "timeout_ms"), value=1000, when="there")),
            await one.alter(Edit(path=("groups", "nobody"), value=None, when="there")),
            await one.alter(Edit(path=("providers", "x"), value={"kind": "openai"}, when="new")),
        ]

        assert [a.reason for a in answers if isinstance(a, Rejected)] == [
            "conflict",
            "not_found",
            "not_found",
            "missing_api_key",
        ]


async def test_changes_wait_in_line_and_each_sees_the_one_before() -> None:
    async with node() as one:
        answers = await asyncio.gather(
            *(one.alter(Edit(path=("providers", "x"), value=provider(), when="new")) for _ in range(3)),
            one.alter(Edit(path=("providers", "x", "timeout_ms"), value=5000, when="there")),
        )

        assert [type(answer).__name__ for answer in answers] == ["Changed", "Rejected", "Rejected", "Changed"]
        assert one.memories["x"].settings.timeout_seconds == 5.0
        assert one.metrics.providers() == {"openai-default", "anthropic-default", "x"}


async def test_what_was_taken_out_of_the_file_s_layers_stays_out_over_a_reload_and_comes_back_when_it_is_given_back() -> (
    None
):
    async with node() as one:
        await one.alter(Edit(path=("providers", "openai-default"), value=None, when="there"))
        await one.reload(RETRY_MAX_ATTEMPTS="2")
        assert set(one.memories) == {"anthropic-default"}

        await one.alter(Edit(path=("providers", "openai-default"), value=provider(), when="new"))
        assert set(one.memories) == {"anthropic-default", "openai-default"}


async def test_a_crash_in_the_middle_of_a_change_does_not_lose_it() -> None:
    async with node() as one:
        await suspend(one.ref(names.ROSTER))
        change = asyncio.ensure_future(one.alter(Edit(path=("providers", "x"), value=provider(), when="new")))
        await settle()
        crash(one.ref(names.CONFIGURATION), RuntimeError("a bug"))
        await settle()
        await asyncio.gather(change, return_exceptions=True)
        assert "x" not in one.memories
        await resume(one.ref(names.ROSTER))
        await asyncio.sleep(5)
        await settle()

        assert one.memories["x"].incarnation >= 1
        assert one.ref(names.provider("x")).alive


async def test_a_part_of_the_tree_that_is_away_is_told_and_the_change_is_made_when_it_is_back() -> None:
    async with node() as one:
        roster = one.ref(names.ROSTER)
        await suspend(roster)
        change = asyncio.ensure_future(one.alter(Edit(path=("providers", "x"), value=provider(), when="new")))
        await settle()
        crash(roster, RuntimeError("a bug"))
        with pytest.raises(Exception, match="a bug"):
            await change
        await asyncio.sleep(5)
        await settle()

        assert one.ref(names.provider("x")).alive


async def test_the_actor_tells_what_waits() -> None:
    async with node() as one:
        await one.alter(Edit(path=("groups", "g"), value={"members": ["openai-default"]}, when="new"))
        await settle()
        behaviour = one.ref(names.CONFIGURATION).process.behaviour
        assert behaviour is not None

        assert behaviour.status() == {"changes waiting": 0, "runtime values": 1}


def test_the_difference_is_what_must_be_done_and_nothing_else() -> None:
    a = ProviderSettings(name="a", kind="openai", base_url="http://a/v1", default_model="m")
    before = Settings(server=ServerSettings(admin_socket=Path("s")), providers=(a,))
    running = {"a": a}
    other = evolve(a, timeout_seconds=1.0)

    assert steps_between(running, before, before) == Steps()
    assert steps_between(running, before, evolve(before, providers=(other,))).to_set == ((other, False),)
    assert steps_between(running, before, evolve(before, providers=())).to_remove == ("a",)


def test_what_is_read_at_a_start_lasts_and_the_rest_changes() -> None:
    started = Settings(server=ServerSettings(admin_socket=Path("s")))
    other = ServerSettings(host="::1", port=1, health_port=2, admin_socket=Path("t"), drain_timeout_seconds=1.0)
    wanted = evolve(started, server=other, logs=LogSettings(level="DEBUG", format="json"))

    now = lasting(wanted, started)
    assert now.server == evolve(started.server, drain_timeout_seconds=1.0)
    assert now.logs == LogSettings(level="DEBUG")


async def test_what_waits_for_a_start_is_told_until_it_is_taken_back() -> None:
    async with node() as one:
        for _ in range(2):
            told = await one.reload(RUNESTONE_LOG_FORMAT="json")
            assert isinstance(told, Changed)
            assert told.needs_restart == ("log.format",)
            assert one.memory.needs_restart == ("log.format",)
        assert one.memory.live.settings.logs.format == "auto"
        back = await one.reload(RUNESTONE_LOG_FORMAT="auto")
        assert back == Changed(changes=(Difference("log.format", "json", "auto"),))


async def test_a_change_that_met_a_part_that_was_away_is_made_up_for_in_every_respect() -> None:
    async with node() as one:
        await suspend(one.ref(names.FAILOVER))
        change = asyncio.ensure_future(one.reload(RUNESTONE_LOG_LEVEL="DEBUG", RUNESTONE_CONNECT_TIMEOUT_MS="777"))
        await asyncio.sleep(1)
        crash(one.ref(names.FAILOVER), RuntimeError("a bug"))
        with pytest.raises(ActorError):
            await change
        assert one.levels == []
        await asyncio.sleep(5)
        await settle()

        assert one.levels == ["DEBUG"]
        assert one.memory.applied.timeouts.connect_seconds == 0.777


async def test_who_waits_for_a_part_that_is_late_is_told_which_it_is_and_that_the_change_stands() -> None:
    async with node() as one:
        await suspend(one.ref(names.FAILOVER))
        with pytest.raises(
            Unfinished, match=r"failover did not answer within 30 s; it is set, .* actor show failover"
        ) as told:
            await one.reload(RUNESTONE_CONNECT_TIMEOUT_MS="777")
        await resume(one.ref(names.FAILOVER))
        await asyncio.sleep(60)
        await settle()

        assert told.value.late
        assert one.memory.applied.timeouts.connect_seconds == 0.777


async def test_a_provider_comes_back_beside_the_line_of_changes_with_the_last_settings_it_was_given() -> None:
    async with node() as one:
        lease = await one.registry.via(names.provider("openai-default")).call(acquire("openai-default"))
        assert isinstance(lease, Lease)
        path = ("providers", "openai-default")
        waiting = [asyncio.ensure_future(one.alter(Edit(path=path, value=None, when="there")))]
        await asyncio.sleep(1)
        waiting.append(asyncio.ensure_future(one.alter(Edit(path=path, value=provider(timeout_ms=1234), when="new"))))
        await asyncio.sleep(1)
        edit = Edit(path=(*path, "timeout_ms"), value=4321, when="there")
        waiting.append(asyncio.ensure_future(one.alter(edit)))
        await asyncio.sleep(1)
        assert isinstance(await one.reload(), Changed)  # nothing of that holds the line
        assert not any(w.done() for w in waiting)
        lease.release("success")
        await asyncio.gather(*waiting)
        await settle()

        assert one.memories["openai-default"].settings.timeout_seconds == 4.321
        assert one.ref(names.provider("openai-default")).alive


async def test_a_provider_that_is_taken_out_leaves_the_groups_as_they_are_at_its_turn() -> None:
    async with node() as one:
        members = {"members": ["openai-default", "anthropic-default"], "weights": {"openai-default": 2.0}}
        made = asyncio.ensure_future(one.alter(Edit(path=("groups", "g"), value=members, when="new")))
        await asyncio.sleep(0)
        gone = await one.registry.via(names.CONFIGURATION).call(TakeOut("openai-default"), timeout=None)
        await made

        assert isinstance(gone, Changed)
        group = next(g for g in one.memory.live.settings.groups if g.name == "g")
        assert (group.providers, group.weights) == (("anthropic-default",), {})
        nobody = await one.registry.via(names.CONFIGURATION).call(TakeOut("nobody"))
        assert isinstance(nobody, Rejected)
        assert nobody.reason == "not_found"


async def test_what_is_registered_anew_has_nothing_of_what_was_there_before(tmp_path: Path) -> None:
    async with node(OPENAI_BASE_URL="http://127.0.0.1:9/v1", OPENAI_TIMEOUT="7s") as one:
        await one.alter(Edit(path=("providers", "openai-default"), value=None, when="there"))
        await one.alter(Edit(path=("providers", "openai-default"), value=provider(), when="new"))

        settings = one.memories["openai-default"].settings
        assert (settings.base_url, settings.timeout_seconds) == ("https://api.openai.com/v1", 120.0)


async def test_what_was_taken_away_of_tables_that_are_gone_too_is_no_mistake() -> None:
    async with node() as one:
        one.memory.overlay = one.memory.overlay.edited(("groups", "gone"), None, in_base=True)

        assert isinstance(await one.reload(), Changed)


async def test_a_provider_that_is_given_back_while_it_drains_serves_when_it_has_drained() -> None:
    async with node() as one:
        lease = await one.registry.via(names.provider("openai-default")).call(acquire("openai-default"))
        assert isinstance(lease, Lease)
        removal = asyncio.ensure_future(one.alter(Edit(path=("providers", "openai-default"), value=None, when="there")))
        await asyncio.sleep(1)
        other = await one.alter(Edit(path=("groups", "g"), value={"members": ["anthropic-default"]}, when="new"))
        assert isinstance(other, Changed)
        assert not removal.done()  # nor has the other change waited for it
        again = asyncio.ensure_future(
            one.alter(Edit(path=("providers", "openai-default"), value=provider(), when="new"))
        )
        await asyncio.sleep(1)
        lease.release("success")
        await asyncio.gather(removal, again)
        await settle()

        assert one.ref(names.provider("openai-default")).alive
        assert one.memories["openai-default"].draining is False


async def test_a_provider_may_be_named_like_a_key_of_a_table() -> None:
    async with node() as one:
        await one.alter(Edit(path=("providers", "headers"), value=provider(timeout_ms=5000), when="new"))
        changed = await one.alter(Edit(path=("providers", "headers", "retry_attempts"), value=2, when="there"))

        assert isinstance(changed, Changed)
        settings = one.memories["headers"].settings
        assert (settings.timeout_seconds, settings.retry.max_attempts) == (5.0, 2)


async def test_a_provider_that_does_not_start_is_told_apart_from_what_was_done() -> None:
    async with node() as one:
        squatter = Process(one.root.process.system, "squatter", parent=None)
        one.registry.register(names.transport("late"), ActorRef(squatter))

        told = await one.alter(Edit(path=("providers", "late"), value=provider(), when="new"))

        assert isinstance(told, Changed)
        assert [line.partition(":")[0] for line in told.failed] == ["provider late"], told
        assert not any("late" in line for line in told.done)


# -- who is in a group


def members(one: Node, name: str) -> tuple[str, ...]:
    return next(group.providers for group in one.memory.live.settings.groups if group.name == name)


async def muster(one: Node, group: str, *, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> object:
    return await one.registry.via(names.CONFIGURATION).call(Members(group, add, remove), timeout=None)


async def test_changes_of_members_at_the_same_time_build_on_each_other() -> None:
    async with node() as one:
        await one.alter(Edit(path=("groups", "g"), value={"members": ["openai-default"]}, when="new"))
        for name in ("x", "y"):
            await one.alter(Edit(path=("providers", name), value=provider(), when="new"))

        told = await asyncio.gather(
            muster(one, "g", add=("x",)), muster(one, "g", add=("y", "x")), muster(one, "g", remove=("openai-default",))
        )

        assert all(isinstance(each, Changed) for each in told)
        assert members(one, "g") == ("x", "y")


async def test_a_group_that_takes_all_has_those_that_it_has_after_a_removal_and_a_change_that_changes_nothing_leaves_it() -> (
    None
):
    async with node() as one:
        default = "default-chat-service"
        again = await muster(one, default, add=("openai-default",))
        assert isinstance(again, Changed)
        assert again.done == ()
        assert one.memory.overlay.values() == []

        await muster(one, default, remove=("openai-default",))
        await one.alter(Edit(path=("providers", "x"), value=provider(), when="new"))

        assert members(one, default) == ("anthropic-default",)
        assert members(one, "cost-optimized-service") == ("openai-default", "anthropic-default", "x")


async def test_one_without_a_key_stays_in_its_group_whoever_else_goes() -> None:
    async with node(ANTHROPIC_API_KEY="") as one:
        await one.alter(Edit(path=("providers", "x"), value=provider(), when="new"))
        kept = "anthropic-default"
        await one.alter(
            Edit(path=("providers", kept), value={"kind": "anthropic"}, when="any"),
            Edit(path=("groups", "g"), value={"members": ["x", kept, "openai-default"]}, when="new"),
        )

        await muster(one, "g", remove=("x",))

        assert one.memory.overlay.tables["groups"]["g"]["members"] == [kept, "openai-default"]


async def test_members_that_cannot_be_changed_so_are_refused_and_nothing_changes() -> None:
    async with node() as one:
        await one.alter(Edit(path=("groups", "g"), value={"members": ["openai-default"]}, when="new"))
        refused = [
            await muster(one, "nobody", add=("openai-default",)),
            await muster(one, "g", remove=("anthropic-default",)),
            await muster(one, "g", remove=("openai-default",)),
            await muster(one, "g", add=("stranger",)),
        ]

        assert [getattr(each, "reason", None) for each in refused] == [
            "not_found",
            "missing_providers",
            "refused",
            "invalid",
        ]
        assert members(one, "g") == ("openai-default",)
