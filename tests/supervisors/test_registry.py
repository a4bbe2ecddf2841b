"""Section 1.11: names."""

from __future__ import annotations

import asyncio

import pytest

from supervisors import (
    ActorRef,
    AlreadyRegistered,
    AlreadyStarted,
    ChildSpec,
    ExitReason,
    GenServer,
    Killed,
    NoProcess,
    Process,
    Registry,
    StartError,
    Supervisor,
    start,
)
from supervisors.testing import leak_check, settle
from tests.supervisors.actors import Boom, Ping, Trace, Traced, child, end, fail, nested, running

pytestmark = pytest.mark.anyio


async def test_unique_second_register_is_already_registered_with_the_holder(trace: Trace) -> None:
    registry = Registry()

    async with running(*trace.children("ab")) as root:
        a, b = await child(root, "a"), await child(root, "b")
        registry.register("name", a)

        for each in (b, a):
            with pytest.raises(AlreadyRegistered) as failed:
                registry.register("name", each)
            assert (failed.value.name, failed.value.holder) == ("name", a)


async def test_unique_all_names_of_a_process_vanish_when_it_exits(trace: Trace) -> None:
    registry = Registry()

    async with running(trace.child("a")) as root:
        a = await child(root, "a")
        registry.register("one", a)
        registry.register("two", a)
        await end(a, Killed())

        assert dict(registry.names()) == {}


async def test_unique_lookup_never_gives_a_dead_process(trace: Trace) -> None:
    registry = Registry()
    found: list[ActorRef | None] = []

    def look(process: Process, reason: ExitReason) -> None:
        found.append(registry.lookup("name"))

    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        ref.process.on_exit(look)
        registry.register("name", ref)
        ref.process.on_exit(look)
        await ref.stop()

        assert found[-1] is None
        assert all(each is None or each.alive for each in found)


async def test_unique_register_of_a_dead_process_leaves_no_entry(trace: Trace) -> None:
    registry = Registry()

    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        await ref.stop()
        registry.register("name", ref)

        assert registry.lookup("name") is None


async def test_unregister_is_idempotent_and_frees_the_name(trace: Trace) -> None:
    registry = Registry()

    async with running(*trace.children("ab")) as root:
        a, b = await child(root, "a"), await child(root, "b")
        registry.register("name", a)
        registry.unregister("name")
        registry.unregister("name")
        registry.register("name", b)
        await end(a, Killed())

        assert registry.lookup("name") == b


async def test_start_under_a_taken_name_is_already_started_and_init_never_runs(trace: Trace) -> None:
    async with running(trace.child("a", name="taken"), registry=Registry()) as root:
        trace.take()
        answer = await root.start_child(trace.child("b", name="taken"))

        assert answer == AlreadyStarted(await child(root, "a"))
        assert trace.take() == ""


async def test_start_of_a_tree_with_one_name_twice_fails_and_rolls_back(trace: Trace) -> None:
    children = [trace.child("a", name="taken"), trace.child("b", name="taken")]

    with leak_check(), pytest.raises(StartError):
        await start(lambda: Supervisor(children), registry=Registry())

    assert trace.take() == "+a -a"


async def test_name_is_registered_before_init_and_free_again_before_a_restart() -> None:
    registry = Registry()
    found: list[ActorRef | None] = []

    class Server(GenServer[str]):
        def init(self) -> None:
            found.append(registry.lookup("name"))
            assert registry.lookup("name") == self.ref

        def handle_cast(self, message: str) -> None:
            raise Boom

    spec = ChildSpec(id="a", start=Server, name="name")

    async with running(spec, registry=registry) as root:
        (await child(root, "a")).cast("crash")
        await settle()

        first, second = found
        assert first != second
        assert registry.lookup("name") == second == await child(root, "a")


async def test_name_is_inherited_down_the_tree(trace: Trace) -> None:
    registry = Registry()

    async with running(nested("inner", trace.child("x", name="deep")), registry=registry) as root:
        x = await child(await child(root, "inner"), "x")

        assert registry.lookup("deep") == x
        assert x.process.name == "deep"
        assert x.process.behaviour.registry is registry


async def test_name_is_free_when_its_child_is_terminated_brutally_killed_or_gone_with_its_supervisor(
    trace: Trace,
) -> None:
    registry = Registry()
    inner = nested("inner", trace.child("x", name="x"))

    async with running(trace.child("a", name="a", shutdown="brutal_kill"), inner, registry=registry) as root:
        await root.terminate_child("a")
        await root.terminate_child("inner")

        assert dict(registry.names()) == {"root": root}


async def test_via_is_resolved_at_each_send(trace: Trace) -> None:
    registry = Registry()
    via = registry.via("name")

    async with running(trace.child("a", name="name"), registry=registry) as root:
        assert await via.call(Ping("first")) == "first"
        await fail(root, "a")
        assert await via.call(Ping("second")) == "second"

        await root.terminate_child("a")
        with pytest.raises(NoProcess):
            await via.call(Ping())


async def test_via_of_a_child_that_waits_for_its_restart_is_no_process(trace: Trace) -> None:
    registry = Registry()

    async with running(trace.child("a", inits=[None, 5.0], name="name"), registry=registry) as root:
        await end(await child(root, "a"), Killed())
        calling = asyncio.ensure_future(registry.via("name").call(Ping(), timeout=60))
        await asyncio.sleep(6)

        assert await calling == "pong"


async def test_names_is_a_read_only_view(trace: Trace) -> None:
    registry = Registry()

    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        registry.register("name", ref)

        assert dict(registry.names()) == {"name": ref}
        with pytest.raises(TypeError):
            registry.names()["other"] = ref  # type: ignore[index]


async def test_duplicate_many_holders_with_a_value_each(trace: Trace) -> None:
    registry = Registry("duplicate")

    async with running(*trace.children("abc")) as root:
        a, b, c = [await child(root, id_) for id_ in "abc"]
        for number, each in enumerate((a, b, c)):
            registry.register("topic", each, number)

        assert dict(registry.entries("topic")) == {a: 0, b: 1, c: 2}

        await root.terminate_child("b")
        assert dict(registry.entries("topic")) == {a: 0, c: 2}
        assert list(registry.entries("other")) == []


async def test_duplicate_dispatch_hands_over_all_holders(trace: Trace) -> None:
    registry = Registry("duplicate")
    told: list[tuple[ActorRef, object]] = []

    async with running(*trace.children("ab")) as root:
        a, b = await child(root, "a"), await child(root, "b")
        registry.register("topic", a, "x")
        registry.register("topic", b, "y")
        registry.dispatch("topic", told.extend)

        assert told == [(a, "x"), (b, "y")]


async def test_process_of_the_registry_empties_it_when_it_ends(trace: Trace) -> None:
    registry = Registry()

    async with running(registry.child_spec(), registry=registry) as root, running(trace.child("a")) as other:
        registry.register("name", await child(other, "a"))
        await root.terminate_child("registry")

        assert dict(registry.names()) == {}


async def test_process_of_the_registry_restarts_with_those_after_it(trace: Trace) -> None:
    registry = Registry()

    async with running(
        registry.child_spec(), trace.child("a", name="name"), registry=registry, strategy="rest_for_one"
    ) as root:
        first = registry.lookup("name")
        await end(await child(root, "registry"), Killed())

        assert registry.lookup("name") == await child(root, "a")
        assert registry.lookup("name") != first
