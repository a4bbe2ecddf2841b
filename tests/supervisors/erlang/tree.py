"""Scenarios of supervision trees: how they are made up, and how the library plays them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_args

from attrs import evolve, frozen

from supervisors import (
    ActorRef,
    ChildSpec,
    Done,
    DynamicSupervisor,
    ExitReason,
    GenServer,
    Ignore,
    NotFound,
    StartError,
    Stop,
    Supervisor,
    start,
)
from supervisors.introspection import resume, suspend
from supervisors.messages import Exit, Info
from supervisors.restart import Restart
from supervisors.strategy import AutoShutdown, Strategy
from supervisors.testing import settle
from tests.supervisors.actors import Boom, End, Raise
from tests.supervisors.erlang.dice import REASONS, Dice
from tests.supervisors.erlang.play import Play, Reason, Script, answered, exit_reason, words

PERIOD = 3600.0  # so long that the grain of a clock does not matter


@frozen
class Flags:
    """The options of a supervisor."""

    strategy: Strategy | Literal["simple_one_for_one"]  # the last is a dynamic supervisor
    max_restarts: int
    auto_shutdown: AutoShutdown


@frozen
class Child:
    """A worker or, with flags, a supervisor."""

    id: str
    restart: Restart
    shutdown: int | Literal["brutal_kill", "infinity"]  # milliseconds
    significant: bool
    trap: bool
    flags: Flags | Literal["worker"]
    children: list[Child]


@frozen
class Crash:
    """It raises in a handler."""

    id: str
    text: str


@frozen
class Quit:
    """It stops by itself."""

    id: str
    reason: Reason


@frozen
class Signal:
    """It is sent an exit signal."""

    id: str
    reason: Reason


@frozen
class Halt:
    """It is stopped from outside."""

    id: str
    reason: Reason


@frozen
class StartChild:
    id: str
    child: Child


@frozen
class TerminateChild:
    id: str
    child: str


@frozen
class RestartChild:
    id: str
    child: str


@frozen
class DeleteChild:
    id: str
    child: str


@frozen
class TerminateProcess:
    """The last life of a dynamic supervisor's child, which may be over."""

    id: str
    child: str


@frozen
class Burst:
    """All this while the supervisor is suspended; then it finds it in its mailbox, in this order."""

    id: str
    steps: list[Step]


Step = (
    Crash | Quit | Signal | Halt | StartChild | TerminateChild | RestartChild | DeleteChild | TerminateProcess | Burst
)
Scenario = tuple[str, dict[str, Script], Child, list[Step]]


# -- how they are made up

IDS = {"root": "abcd", "s": "efg", "t": "hij"}  # an id belongs to one supervisor, whatever it is started as
NESTED: dict[str, list[str]] = {"root": ["s", "t"], "s": ["t"], "t": []}
NOT_KILLED = [reason for reason in REASONS if reason != "killed"]


class Maker:
    """Makes up one tree from a seed, and what happens to it."""

    def __init__(self, seed: int) -> None:
        self._dice = Dice(seed)
        self._auto: dict[str, AutoShutdown] = {}
        self._owner: dict[str, str] = {}
        self._kills = self._dice.chance(0.3)  # supervisors, too

    def scenario(self) -> Scenario:
        """All of it."""
        root = self._supervisor("root", "never")
        scripts = {id_: self._dice.script() for ids in IDS.values() for id_ in ids}
        steps = [self._step() for _ in range(self._dice.random.randint(3, 10))]
        last = Signal("root", "killed") if self._kills else Halt("root", self._dice.pick(REASONS))
        return "tree", scripts, root, [*steps, last]

    def _supervisor(self, id_: str, auto: AutoShutdown) -> Child:
        flags = Flags(
            self._dice.pick(get_args(Strategy)),
            self._dice.pick([0, 1, 2, 3, 9]),
            self._dice.pick(["never", *get_args(AutoShutdown)]),
        )
        self._auto[id_] = flags.auto_shutdown
        children = [self._worker(id_, each) for each in IDS[id_] if self._dice.chance(0.7)]
        nested = [each for each in self._nested(id_) if self._dice.chance(0.4)]
        self._owner.update(dict.fromkeys(nested, id_))
        children += [self._supervisor(each, flags.auto_shutdown) for each in nested]
        self._dice.random.shuffle(children)
        return self._child(id_, auto, flags, children)

    def _nested(self, id_: str) -> list[str]:
        """The supervisors that may be children of ``id_``: there is never a second one of the same id elsewhere."""
        return [each for each in NESTED[id_] if self._owner.get(each, id_) == id_]

    def _worker(self, parent: str, id_: str) -> Child:
        return self._child(id_, self._auto[parent], "worker", [])

    def _child(self, id_: str, auto: AutoShutdown, flags: Flags | Literal["worker"], children: list[Child]) -> Child:
        restart = self._dice.pick(get_args(Restart))
        significant = auto != "never" and restart != "permanent" and self._dice.chance(0.8)
        shutdown: int | Literal["brutal_kill", "infinity"] = "infinity"
        if flags == "worker":
            # In Erlang a killed supervisor's child is told so whatever its policy; here one of brutal_kill is killed with it.
            shutdown = self._dice.pick([5000, "infinity", 5000 if self._kills else "brutal_kill"])
        return Child(id_, restart, shutdown, significant, self._dice.chance(0.5), flags, children)

    def _step(self) -> Step:
        supervisor = self._dice.pick(list(self._auto))
        match self._dice.random.randrange(8):
            case 0:
                return Burst(supervisor, [self._one(supervisor) for _ in range(self._dice.random.randint(2, 5))])
            case 1 if supervisor != "root" and self._dice.chance(0.5):
                if self._dice.chance(0.5):
                    return Halt(supervisor, self._dice.pick(REASONS))
                return Signal(supervisor, "killed" if self._kills else self._dice.pick(NOT_KILLED))
            case _:
                return self._one(supervisor)

    def _one(self, supervisor: str) -> Step:  # noqa: PLR0911 - one arm per kind
        """A step that concerns a child of ``supervisor``."""
        id_ = self._dice.pick(IDS[supervisor])
        known = self._dice.pick([*IDS[supervisor], *NESTED[supervisor]])
        match self._dice.random.randrange(12):
            case 0 | 1 | 2:
                return Crash(id_, "c")
            case 3 | 4:
                return Quit(id_, self._dice.pick(REASONS))
            case 5:
                return Signal(id_, self._dice.pick(REASONS))
            case 6:
                return Halt(id_, self._dice.pick(REASONS))
            case 7 | 8:
                nested = self._nested(supervisor)
                if nested and self._dice.chance(0.2):
                    inner = self._dice.pick(nested)
                    self._owner[inner] = supervisor
                    child = self._supervisor(inner, self._auto[supervisor])
                else:
                    child = self._worker(supervisor, id_)
                if child.restart != "permanent" and self._dice.chance(0.05):
                    child = evolve(child, significant=True)  # which is wrong where there is no auto_shutdown
                return StartChild(supervisor, child)
            case 9:
                return TerminateChild(supervisor, known)
            case 10:
                return RestartChild(supervisor, known)
            case _:
                return DeleteChild(supervisor, known)


# -- how the library plays them


class Worker(GenServer[Any]):
    """Does what its script says."""

    def __init__(self, play: Play, child: Child) -> None:
        self.trap_exit = child.trap
        self._play = play
        self._id = child.id

    def init(self) -> Ignore | Stop | None:
        match self._play.born(self._id, self.process):
            case "ok":
                return None
            case "ignore":
                return Ignore()
            case ("crash", text):
                raise Boom(text)
            case (_, reason):
                return Stop(exit_reason(reason))

    def handle_cast(self, message: End | Raise) -> Stop:
        if isinstance(message, Raise):
            raise message.exception
        return Stop(message.reason)

    def handle_info(self, message: Info) -> None:
        if isinstance(message, Exit):
            self._play.note(f"signal {self._play.names[self.process]} {words(message.reason)}")

    def terminate(self, reason: ExitReason) -> None:
        if self._play.deaf_in_erlang(self.process):
            return
        self._play.note(f"terminate {self._play.names[self.process]} {words(reason)}")
        if isinstance(outcome := self._play.scripts[self._id].terminate, tuple):
            raise Boom(outcome[1])


class Overseer(Supervisor):
    """Tells of its birth."""

    def __init__(self, play: Play, child: Child) -> None:
        assert isinstance(child.flags, Flags)
        assert child.flags.strategy != "simple_one_for_one"
        super().__init__(
            [spec(play, each) for each in child.children],
            strategy=child.flags.strategy,
            max_restarts=child.flags.max_restarts,
            max_seconds=PERIOD,
            auto_shutdown=child.flags.auto_shutdown,
        )
        self._play = play
        self._id = child.id

    async def init(self) -> Stop | None:
        self._play.born(self._id, self.process)
        return await super().init()


class Crowd(DynamicSupervisor):
    """Tells of its birth."""

    def __init__(self, play: Play, child: Child) -> None:
        assert isinstance(child.flags, Flags)
        super().__init__(max_restarts=child.flags.max_restarts, max_seconds=PERIOD)
        self._play = play
        self._id = child.id

    def init(self) -> None:
        self._play.born(self._id, self.process)
        super().init()


def spec(play: Play, child: Child) -> ChildSpec:
    """The child spec of ``child``."""
    behaviour: Callable[[Play, Child], GenServer[Any]] = Worker if child.flags == "worker" else Overseer
    return ChildSpec(
        id=child.id,
        start=lambda: behaviour(play, child),
        restart=child.restart,
        shutdown=child.shutdown / 1000 if isinstance(child.shutdown, int) else child.shutdown,
        type="worker" if child.flags == "worker" else "supervisor",
        significant=child.significant,
    )


async def played(scenario: Scenario) -> list[str]:
    """What happens here, in the words of the oracle."""
    kind, scripts, root, steps = scenario
    play = Play(scripts)
    behaviour = Crowd if kind == "dynamic" else Overseer
    first = []
    try:
        await start(lambda: behaviour(play, root), observers=[lambda _: None])
    except StartError as error:
        first = [f"start failed({words(error.reason)})"]
    lines = play.take() + first + await state(play)
    for step in steps:
        if play.ref("root") is None:
            break
        asked = await played_step(play, step)
        await settle()
        lines += ["--", *play.take(), *await answered(asked), *await state(play)]
    if (left := play.ref("root")) is not None:
        await left.stop()
    return lines


async def state(play: Play) -> list[str]:
    """The children of each supervisor."""
    found = sorted(play.pids.items())
    return [
        await _children(play, id_, ActorRef(p))
        for id_, p in found
        if isinstance(p.behaviour, Supervisor | DynamicSupervisor)
    ]


async def _children(play: Play, id_: str, ref: ActorRef) -> str:
    children = [
        f" {each.id if each.ref is None else play.names[each.ref.process]} {each.state} {each.type},"
        for each in await ref.which_children()
    ]
    counts = await ref.count_children()
    if isinstance(ref.process.behaviour, DynamicSupervisor):
        return f"{id_}:{''.join(sorted(children))} | {counts.specs} {counts.supervisors} {counts.workers}"
    return f"{id_}:{''.join(children)} | {counts.specs} {counts.active} {counts.supervisors} {counts.workers}"


async def played_step(play: Play, step: Step) -> list[asyncio.Task[str] | str]:
    """Begin ``step``; what is to be answered."""
    ref = play.ref(step.id)
    if ref is None:
        return ["answer dead"]
    asked: Awaitable[Any]
    match step:
        case Burst(_, steps):
            answers = []
            await suspend(ref)
            for each in steps:
                answers += await played_step(play, each)
                await settle()
            await resume(ref)
            return answers
        case Crash(_, text):
            ref.cast(Raise(Boom(text)))
            return []
        case Quit(_, reason):
            ref.cast(End(exit_reason(reason)))
            return []
        case Signal(_, reason):
            ref.exit(exit_reason(reason))
            return []
        case Halt(_, reason):
            play.halted.add(ref.process)
            asked = ref.stop(exit_reason(reason))
        case StartChild(_, child):
            asked = _start_child(play, ref, child)
        case TerminateChild(_, id_):
            asked = ref.terminate_child(id_)
        case RestartChild(_, id_):
            asked = ref.restart_child(id_)
        case DeleteChild(_, id_):
            asked = ref.delete_child(id_)
        case TerminateProcess(_, id_):
            asked = _terminated(ref, play.last(id_))
    return [asyncio.create_task(play.answer(asked))]


async def _terminated(ref: ActorRef, process: ActorRef) -> Any:
    """That there is no such child any more is ``ok`` in Erlang; Elixir's supervisor, like ours, does not find it."""
    answer = await ref.terminate_child(process)
    return Done() if answer == NotFound() and not process.alive else answer


async def _start_child(play: Play, ref: ActorRef, child: Child) -> Any:
    return await ref.start_child(spec(play, child))


def kills_a_supervisor(step: Step | None) -> bool:
    """Whether children outlive their supervisor in Erlang."""
    return isinstance(step, Signal) and step.id in IDS and step.reason == "killed"
