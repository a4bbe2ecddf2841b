"""Random histories against plain models, and random schedules that must leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from supervisors import (
    ActorError,
    ActorRef,
    AlreadyRegistered,
    ChildSpec,
    Crashed,
    DynamicSupervisor,
    ExitReason,
    Killed,
    Normal,
    Registry,
    Shutdown,
    Supervisor,
    start,
)
from supervisors.restart import Restart
from supervisors.strategy import Strategy
from supervisors.testing import VirtualTimeLoop, leak_check, settle
from tests.supervisors.actors import Boom, Busy, Ping, Raise, Trace, Traced, child, end, states
from tests.supervisors.models import DynamicModel, SupervisorModel, Window

IDS = "abcde"
RESTARTS: list[Restart] = ["permanent", "transient", "temporary"]
STRATEGIES: list[Strategy] = ["one_for_one", "one_for_all", "rest_for_one"]
REASONS: list[Callable[[], ExitReason]] = [Normal, Shutdown, lambda: Shutdown("x"), Killed, lambda: Crashed(Boom())]


BATCH = 200
T = TypeVar("T")


def explore(
    examples: int, arguments: Callable[[Any], Any], history: Callable[..., None], first: int | None = None
) -> None:
    """Let hypothesis run ``history`` so often, each time with other ``arguments``, in batches with a seed each.

    In batches, for until a run ends hypothesis keeps all that it has tried, 25 kB of each example. What fails is shown with the seed of
    its batch: with ``examples=BATCH`` and that seed as ``first`` the same examples are run again.
    """
    if first is None:
        first = 0 if "CI" in os.environ else random.getrandbits(32)
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.large_base_example]
    batch = settings(max_examples=BATCH, deadline=None, database=None, suppress_health_check=checks)
    for number in range(first, first + examples // BATCH):
        try:
            seeded(number)(batch(arguments(history)))()
        except BaseException as error:
            error.add_note(f"to run this batch again: explore(BATCH, ..., first={number})")
            raise


sizes = pytest.mark.parametrize(
    ("examples", "least"),
    [
        pytest.param(400, 2_000, id="thousands"),
        pytest.param(20_000, 100_000, id="a hundred thousand", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)


taken: Counter[str] = Counter()  # steps and schedules that were really run


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """One look for leaks after all examples of a test, for it walks over all objects there are.

    Nothing is logged meanwhile: pytest keeps every record of a test, and the crashes of a long one would fill gigabytes.
    """
    taken.clear()
    logging.disable()
    try:
        with leak_check():
            yield
    finally:
        logging.disable(logging.NOTSET)


class FuturesLoop(VirtualTimeLoop):
    """Knows the futures that it has made and that somebody still holds."""

    def __init__(self, *, seed: int | None) -> None:
        super().__init__(seed=seed)
        self.futures: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()

    def create_future(self) -> asyncio.Future[Any]:
        future = super().create_future()
        self.futures.add(future)
        return future

    def pending(self) -> list[asyncio.Future[Any]]:
        return [future for future in self.futures if not future.done()]


def run(history: Coroutine[Any, Any, T], seed: int | None = None) -> T:
    """Run ``history`` on a loop of its own with virtual time. It must leave no task, and no future that waits."""
    loop = FuturesLoop(seed=seed)

    async def main() -> T:
        result = await history
        await settle()

        assert asyncio.all_tasks() == {asyncio.current_task()}
        if loop.pending():
            gc.collect()  # what nobody refers to is no leak
        assert loop.pending() == []
        return result

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())


# -- supervisor


@frozen
class Start:
    id: str
    restart: Restart
    failures: int


@frozen
class Terminate:
    id: str


@frozen
class RestartChild:
    id: str


@frozen
class Delete:
    id: str


@frozen
class Ends:
    id: str
    reason: ExitReason
    failures: int


@frozen
class Sleep:
    seconds: float


Step = Start | Terminate | RestartChild | Delete | Ends | Sleep

ids_ = st.sampled_from(IDS)
# An exception of its own for each step: its traceback gets longer whenever it is raised, and keeps all frames of all histories.
reasons = st.sampled_from(REASONS).map(lambda make: make())
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Start, ids_, st.sampled_from(RESTARTS), st.sampled_from([0, 0, 0, 1])),
    st.builds(Terminate, ids_),
    st.builds(RestartChild, ids_),
    st.builds(Delete, ids_),
    st.builds(Ends, ids_, reasons, st.sampled_from([0, 0, 0, 1, 2])),
    st.builds(Ends, ids_, reasons, st.sampled_from([0, 0, 0, 1, 2])),
    st.builds(Sleep, st.sampled_from([0.5, 2.0, 7.0])),
)


class Nursery:
    """Child specs whose next inits fail as often as it is told."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.failures: dict[str, int] = {}

    def spec(self, id_: str, restart: Restart) -> ChildSpec:
        return ChildSpec(id=id_, start=lambda: Traced(self.trace, id_, self._init(id_)), restart=restart)

    def _init(self, id_: str) -> Exception | None:
        if self.failures.get(id_, 0):
            self.failures[id_] -= 1
            return Boom("init")
        return None


async def supervisor_history(
    strategy: Strategy, initial: list[Restart], max_restarts: int, history: list[Step]
) -> None:
    nursery = Nursery()
    model = SupervisorModel(strategy, Window(max_restarts, 5.0))
    specs = [nursery.spec(id_, restart) for id_, restart in zip(IDS, initial, strict=False)]
    for spec in specs:
        model.start_child(spec.id, spec.restart, 0)

    root = await start(lambda: Supervisor(specs, strategy=strategy, max_restarts=max_restarts, max_seconds=5.0))
    for step in history:
        taken["steps"] += 1
        await supervisor_step(root, nursery, model, step)

        assert nursery.trace.take().split() == model.log, step
        model.log.clear()
        assert root.alive == model.alive
        if not model.alive:
            assert root.process.reason == Shutdown()
            return
        assert states(root) == {each.id: each.state for each in model.children}
        assert [each.id for each in await root.which_children()] == [each.id for each in model.children]
    await root.stop()
    model.stop()

    assert nursery.trace.take().split() == model.log


async def supervisor_step(root: ActorRef, nursery: Nursery, model: SupervisorModel, step: Step) -> None:
    match step:
        case Start(id_, restart, failures):
            if model.find(id_) is None:
                nursery.failures[id_] = failures
            answer = await root.start_child(nursery.spec(id_, restart))
            assert type(answer).__name__ == model.start_child(id_, restart, failures)
        case Terminate(id_):
            assert type(await root.terminate_child(id_)).__name__ == model.terminate_child(id_)
        case RestartChild(id_):
            assert type(await root.restart_child(id_)).__name__ == model.restart_child(id_)
        case Delete(id_):
            assert type(await root.delete_child(id_)).__name__ == model.delete_child(id_)
        case Sleep(seconds):
            await asyncio.sleep(seconds)
        case Ends(id_, reason, failures):
            known = model.find(id_)
            if known is not None and known.state == "running":
                nursery.failures[id_] = known.failures = failures
                now = asyncio.get_running_loop().time()
                await end(await child(root, id_), reason)
                model.end(id_, reason, terminates=reason != Killed(), now=now)


supervisor_histories = given(
    strategy=st.sampled_from(STRATEGIES),
    initial=st.lists(st.sampled_from(RESTARTS), max_size=4),
    max_restarts=st.sampled_from([0, 1, 3, 1000]),
    history=st.lists(steps, min_size=5, max_size=40),
)


@sizes
def test_supervisor_agrees_with_its_model_in_any_history_of(examples: int, least: int) -> None:
    explore(examples, supervisor_histories, lambda **given_: run(supervisor_history(**given_)))

    assert taken["steps"] >= least


# -- dynamic supervisor

DynamicStep = Start | Terminate | Ends | Sleep

numbers = st.integers(min_value=0, max_value=11)
dynamic_steps: st.SearchStrategy[DynamicStep] = st.one_of(
    st.builds(Start, st.just(""), st.sampled_from(RESTARTS), st.sampled_from([0, 0, 0, 0, 1])),
    st.builds(Start, st.just(""), st.sampled_from(RESTARTS), st.just(0)),
    st.builds(Terminate, numbers.map(str)),
    st.builds(Ends, numbers.map(str), reasons, st.sampled_from([0, 0, 0, 1, 2])),
    st.builds(Sleep, st.sampled_from([0.5, 2.0, 7.0])),
)


async def dynamic_history(max_children: int | None, max_restarts: int, history: list[DynamicStep]) -> None:
    nursery = Nursery()
    model = DynamicModel(max_children, Window(max_restarts, 5.0))
    number = 0

    async def ref_of(id_: str) -> ActorRef | None:
        return next((each.ref for each in await root.which_children() if each.id == id_), None)

    root = await start(lambda: DynamicSupervisor(max_children=max_children, max_restarts=max_restarts, max_seconds=5.0))
    for step in history:
        taken["steps"] += 1
        match step:
            case Start(_, restart, failures):
                nursery.failures[str(number)] = failures
                answer = await root.start_child(nursery.spec(str(number), restart))
                assert type(answer).__name__ == model.start_child(number, restart, failures)
                number += 1
            case Terminate(id_):
                ref = await ref_of(id_)
                done = await root.terminate_child(id_ if ref is None else ref)
                assert type(done).__name__ == model.terminate_child(int(id_))
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Ends(id_, reason, failures):
                if int(id_) in model.children:
                    nursery.failures[id_] = model.children[int(id_)].failures = failures
                    now = asyncio.get_running_loop().time()
                    ref = await ref_of(id_)
                    assert ref is not None
                    await end(ref, reason)
                    model.end(int(id_), reason, now)
        assert root.alive == model.alive
        if not model.alive:
            return
        assert states(root) == {str(each): "running" for each in model.children}
        refs = {each.id: each.ref for each in await root.which_children()}
        for ref in refs.values():
            assert ref is not None
            assert await ref.call(Ping()) == "pong"
    await root.stop()


dynamic_histories = given(
    max_children=st.sampled_from([None, 0, 1, 3]),
    max_restarts=st.sampled_from([0, 1, 3, 1000]),
    history=st.lists(dynamic_steps, min_size=5, max_size=40),
)


@sizes
def test_dynamic_supervisor_agrees_with_its_model_in_any_history_of(examples: int, least: int) -> None:
    explore(examples, dynamic_histories, lambda **given_: run(dynamic_history(**given_)))

    assert taken["steps"] >= least


# -- registry


@frozen
class Register:
    name: str
    holder: int


@frozen
class Unregister:
    name: str
    holder: int


@frozen
class Dies:
    holder: int


RegistryStep = Register | Unregister | Dies

names = st.sampled_from(["one", "two", "three"])
holders = st.integers(min_value=0, max_value=3)
registry_steps: st.SearchStrategy[RegistryStep] = st.one_of(
    st.builds(Register, names, holders), st.builds(Unregister, names, holders), st.builds(Dies, holders)
)


async def registry_history(history: list[RegistryStep]) -> None:
    registry, trace = Registry(), Trace()
    model: dict[str, ActorRef] = {}

    refs = [await start(lambda: Traced(trace, "x")) for _ in range(4)]
    for step in history:
        taken["steps"] += 1
        match step:
            case Register(name, holder):
                if name in model:
                    with pytest.raises(AlreadyRegistered) as failed:
                        registry.register(name, refs[holder])
                    assert failed.value.holder == model[name]
                else:
                    registry.register(name, refs[holder])
                    model[name] = refs[holder]
            case Unregister(name, holder):
                registry.unregister(name, refs[holder])
                if model.get(name) == refs[holder]:
                    del model[name]
            case Dies(holder):
                await end(refs[holder], Killed())
                model = {name: ref for name, ref in model.items() if ref != refs[holder]}
                refs[holder] = await start(lambda: Traced(trace, "x"))
        assert dict(registry.names()) == model
        assert {name: registry.lookup(name) for name in model} == model
    for ref in refs:
        await ref.stop()

    assert dict(registry.names()) == {}


@sizes
def test_registry_agrees_with_a_dictionary_in_any_history_of(examples: int, least: int) -> None:
    histories = given(history=st.lists(registry_steps, min_size=5, max_size=40))

    explore(examples, histories, lambda **given_: run(registry_history(**given_)))

    assert taken["steps"] >= least


# -- schedules


@frozen
class At:
    """Do ``what`` to child ``which`` and go on ``after`` so many seconds, or in the same tick."""

    what: str
    which: int
    after: float | None


schedules = st.lists(
    st.builds(
        At,
        st.sampled_from(
            [
                *("crash", "kill", "cancel", "stop", "call", "cancel call", "busy"),
                *("start", "cancel start", "terminate", "restart", "delete"),
                *("adopt", "cancel adopted", "kill pool", "cancel root", "kill inner", "stop root"),
            ]
        ),
        st.integers(min_value=0, max_value=9),
        st.sampled_from([None, None, 0.0, 0.05, 0.3]),
    ),
    min_size=5,
    max_size=40,
)


class Chaos:
    """A tree that is treated without any regard, and the tasks that do so."""

    def __init__(self, root: ActorRef, trace: Trace) -> None:
        self.root = root
        self.trace = trace
        self.tasks: list[asyncio.Task[Any]] = []
        self.calls: list[asyncio.Task[Any]] = []
        self.starts: list[asyncio.Task[Any]] = []
        self.requests: list[asyncio.Task[Any]] = []

    def refs(self) -> list[ActorRef]:
        """All living processes below the root, found without a call."""
        return [ActorRef(process) for process in living(self.root)]

    def pools(self) -> list[ActorRef]:
        return [ref for ref in self.refs() if isinstance(ref.process.behaviour, DynamicSupervisor)]

    def inners(self) -> list[ActorRef]:
        return [ref for ref in self.refs() if type(ref.process.behaviour) is Supervisor]

    def workers(self) -> list[ActorRef]:
        return [ref for ref in self.refs() if isinstance(ref.process.behaviour, Traced)]

    def do(self, step: At) -> None:
        action: dict[str, Callable[[int], None]] = {
            "crash": lambda n: self._each(self.workers(), n, lambda ref: ref.cast(Raise(Boom("chaos")))),
            "kill": lambda n: self._each(self.workers(), n, lambda ref: ref.exit(Killed())),
            "cancel": lambda n: self._each(self.workers(), n, _cancel),
            "stop": lambda n: self._each(self.workers(), n, lambda ref: self._go(ref.stop(Shutdown()))),
            "busy": lambda n: self._each(self.workers(), n, lambda ref: ref.cast(Busy(0.4))),
            "call": lambda n: self._each(
                self.workers(), n, lambda ref: self.calls.append(self._go(ref.call(Ping(), timeout=1.0)))
            ),
            "cancel call": lambda n: self._cancel_one(self.calls, n),
            "start": lambda n: self._each(
                [self.root, *self.pools(), *self.inners()],
                n,
                lambda ref: self.starts.append(self._go(ref.start_child(self._spec(n)))),
            ),
            "cancel start": lambda n: self._cancel_one(self.starts, n),
            "terminate": lambda n: self._each(
                [self.root, *self.inners()], n, lambda ref: self._go(ref.terminate_child(f"w{n % 3}"))
            ),
            "restart": lambda n: self._each(
                [self.root, *self.inners()], n, lambda ref: self._go(ref.restart_child(f"w{n % 3}"))
            ),
            "delete": lambda n: self._each(
                [self.root, *self.inners()], n, lambda ref: self._go(ref.delete_child(f"w{n % 3}"))
            ),
            "adopt": lambda n: self._each(
                self.pools(), n, lambda ref: self.requests.append(self._go(self._request(ref)))
            ),
            "cancel adopted": lambda n: self._cancel_one(self.requests, n),
            "kill pool": lambda n: self._each(self.pools(), n, lambda ref: ref.exit(Killed())),
            "kill inner": lambda n: self._each(self.inners(), n, lambda ref: ref.exit(Killed())),
            "cancel root": lambda n: _cancel(self.root) if n == 0 else None,
            "stop root": lambda n: self._each([self.root], n, lambda ref: self._go(ref.stop())) if n == 0 else None,
        }
        action[step.what](step.which)

    def _spec(self, number: int) -> ChildSpec:
        return self.trace.child(
            f"w{number % 3}",
            inits=[0.1, *([Boom()] * (number % 4)), None],
            terminate=0.2 if number % 2 else None,
            restart=RESTARTS[number % 3],
            shutdown=0.1 if number % 5 == 0 else 5.0,
        )

    async def _request(self, pool: ActorRef) -> None:
        async with pool.adopt():
            for ref in self.workers():
                await ref.call(Ping(), timeout=0.5)
                await asyncio.sleep(0.1)

    def _each(self, refs: list[ActorRef], number: int, action: Callable[[ActorRef], object]) -> None:
        if refs:
            action(refs[number % len(refs)])

    def _go(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(coroutine)
        self.tasks.append(task)
        return task

    def _cancel_one(self, tasks: list[asyncio.Task[Any]], number: int) -> None:
        if tasks:
            tasks[number % len(tasks)].cancel()


def _cancel(ref: ActorRef) -> None:
    if ref.process.task is not None:
        ref.process.task.cancel()


def living(ref: ActorRef) -> list[Any]:
    """The living processes below ``ref``."""
    found = []
    behaviour = ref.process.behaviour
    if ref.alive and isinstance(behaviour, Supervisor | DynamicSupervisor):
        for each in behaviour.children():
            if each.process is not None and each.process.alive:
                found += [each.process, *living(ActorRef(each.process))]
    return found


async def chaos(strategy: Strategy, schedule: list[At]) -> str:
    """Play ``schedule``, look for what is left, and tell what the children did."""
    trace, registry = Trace(), Registry()

    def inner() -> Supervisor:
        return Supervisor(
            [trace.child("w0", name="inner", terminate=0.1), trace.child("w1", restart="transient")],
            strategy="one_for_all",
            max_restarts=2,
        )

    children = [
        trace.child("w0", name="first", terminate=0.3),
        ChildSpec(id="pool", start=DynamicSupervisor, name="pool", type="supervisor"),
        ChildSpec(id="inner", start=inner, type="supervisor", shutdown=1.0),
        trace.child("w1", restart="transient", name="last"),
    ]

    root = await start(lambda: Supervisor(children, strategy=strategy, max_restarts=10), registry=registry)
    world = Chaos(root, trace)
    processes = set(living(root))
    for step in schedule:
        world.do(step)
        if step.after is not None:
            await asyncio.sleep(step.after)
        processes |= set(living(root))
    if root.alive:
        world.tasks.append(asyncio.ensure_future(root.stop()))
    async with asyncio.timeout(600):
        await root.wait()
    for request in world.requests:
        request.cancel()
    done = await asyncio.gather(*world.tasks, return_exceptions=True)
    await settle()

    processes.add(root.process)
    assert not any(process.alive for process in processes)
    assert not any(process.monitors for process in processes)
    assert dict(registry.names()) == {}
    assert [each for each in done if isinstance(each, Exception) and not isinstance(each, ActorError)] == []
    return trace.take()


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(400, id="hundreds"),
        pytest.param(10_000, id="ten thousand", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_no_schedule_of_crashes_cancels_and_stops_leaves_anything_of(count: int) -> None:
    """A schedule that leaves something is shown with its seed: ``run(chaos(strategy, schedule), seed)`` does the same again."""

    def schedule(strategy: Strategy, schedule: list[At], seed: int | None) -> None:
        taken["schedules"] += 1
        run(chaos(strategy, schedule), seed)

    arguments = given(
        strategy=st.sampled_from(STRATEGIES),
        schedule=schedules,
        seed=st.none() | st.integers(min_value=0, max_value=2**16),
    )
    explore(count, arguments, schedule)

    assert taken["schedules"] >= count


def test_schedule_is_replayed_by_its_seed_and_another_seed_plays_it_otherwise() -> None:
    whats = ["crash", "busy", "call", "kill", "start", "adopt", "terminate", "kill inner", "restart", "stop", "crash"]
    schedule = [At(what, which, None) for which, what in enumerate(whats)]

    def played(seed: int) -> str:
        return run(chaos("rest_for_one", schedule), seed)

    assert [played(seed) for seed in range(20)] == [played(seed) for seed in range(20)]
    assert len({played(seed) for seed in range(20)}) > 1
