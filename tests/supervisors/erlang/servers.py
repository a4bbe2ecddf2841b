"""Scenarios of servers without a supervisor: calls, exits, links, monitors, introspection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from attrs import frozen

from supervisors import (
    NO_REPLY,
    ActorExited,
    ActorRef,
    Call,
    Caller,
    ChildSpec,
    Continue,
    Down,
    DynamicSupervisor,
    Exit,
    ExitReason,
    GenServer,
    Ignore,
    Info,
    Killed,
    Monitor,
    Reply,
    Stop,
    start,
)
from supervisors.introspection import get_state, replace_state, resume, suspend
from supervisors.testing import settle
from tests.supervisors.actors import Boom
from tests.supervisors.erlang.dice import REASONS, Dice
from tests.supervisors.erlang.play import Play, exit_reason, words

IDS = "pqr"

Message = Any
"""What a server is to do: an atom, or a tuple that begins with one."""


@frozen
class Server:
    """How one is started."""

    id: str
    trap: bool
    begins: str  # ok, or the term of its first continue


@frozen
class Step:
    """Something is done to a server."""

    name: str
    id: str
    argument: Any = None

    @property
    def term(self) -> Any:
        """As Erlang takes it."""
        return (self.name, self.id) if self.argument is None else (self.name, self.id, self.argument)


# -- how they are made up


class Maker:
    """Makes up one scenario from a seed."""

    def __init__(self, seed: int) -> None:
        self._dice = Dice(seed)

    def scenario(self) -> tuple[list[Server], list[Step]]:
        """All of it."""
        steps: list[Step] = []
        for _ in range(self._dice.random.randint(4, 14)):
            steps += self._burst() if self._dice.chance(0.15) else [self._step()]
        return [self._server(id_) for id_ in IDS], [*steps, *(Step("signal", id_, "killed") for id_ in IDS)]

    def _server(self, id_: str) -> Server:
        return Server(id_, self._dice.chance(0.5), self._term() if self._dice.chance(0.2) else "ok")

    def _burst(self) -> list[Step]:
        """A queue that is handled in one go."""
        id_ = self._dice.pick(IDS)
        # None tells another server: what that one does would happen at the same time as the rest.
        steps = [self._message(id_, depth=0) for _ in range(self._dice.random.randint(2, 5))]
        last = Step("resume", id_) if self._dice.chance(0.7) else Step("finish", id_, "shutdown")
        return [Step("suspend", id_), *steps, last]

    def _step(self) -> Step:  # noqa: PLR0911 - one arm per kind
        id_ = self._dice.pick(IDS)
        match self._dice.random.randrange(12):
            case 0:
                return Step("signal", id_, self._dice.pick(REASONS))
            case 1:
                return Step("finish", id_, self._dice.pick(REASONS))
            case 2:
                return Step(self._dice.pick(["suspend", "resume"]), id_)
            case 3:
                return Step("get_state", id_)
            case 4:
                return Step("replace_state", id_, self._dice.pick(["n", "crash"]))
            case 5 | 6:
                return Step("start_server", id_, self._server(id_))
            case _:
                return self._message(id_)

    def _message(self, id_: str, depth: int = 2) -> Step:
        how = self._dice.pick(["call", "call", "cast", "info"])
        return Step(how, id_, self._called() if how == "call" else self._told(depth))

    def _called(self) -> Message:
        return self._dice.pick(
            [
                ("reply", "v"),
                "hold",
                "hold",
                ("hold_continue", self._term()),
                ("reply_continue", "v", self._term()),
                ("reply_stop", "v", self._dice.pick(REASONS)),
                ("reply_crash", "v", "c"),
                "bad",
                ("stop", self._dice.pick(REASONS)),
                ("crash", "c"),
            ]
        )

    def _told(self, depth: int) -> Message:
        """What needs no answer; what a server tells another one may make that tell a third."""
        other = self._dice.pick(IDS)
        return self._dice.pick(
            [
                ("note", self._dice.pick("xyz")),
                ("stop", self._dice.pick(REASONS)),
                ("crash", "c"),
                ("continue", self._term()),
                ("release", "w"),
                ("release_last", "w"),
                ("release_twice", "w"),
                ("ask", other, self._called()),
                ("link", other),
                ("link", other),
                ("unlink", other),
                ("watch", other),
                ("watch", other),
                ("unwatch", other),
                ("tell", other, self._told(depth - 1)) if depth else ("note", "deep"),
            ]
        )

    def _term(self) -> str:
        return self._dice.pick(["on", "again", "crash", "stop"])


# -- how the library plays them


@frozen
class Asked(Call[str]):
    """A call of ``message``."""

    message: Message


@frozen
class Told:
    """A cast of ``message``."""

    message: Message


@frozen
class Noted(Info):
    """An info of ``message``."""

    message: Message


class Peer(GenServer[Told]):
    """Does what it is told."""

    def __init__(self, play: Play, server: Server) -> None:
        self.trap_exit = server.trap
        self.busy = False
        self._play = play
        self._id = server.id
        self._begins = server.begins
        self.notes: list[str] = []
        self.held: list[Caller[str]] = []
        self._watched: dict[str, list[Monitor]] = {}

    def init(self) -> Continue | None:
        self._play.born(self._id, self.process)
        return None if self._begins == "ok" else Continue(self._begins)

    async def handle_call(self, message: Call[str], caller: Caller[str]) -> Any:  # noqa: PLR0911 - one arm per message
        assert isinstance(message, Asked)
        match message.message:
            case ("reply", value):
                return value
            case "hold":
                self.held.append(caller)
                return NO_REPLY
            case ("hold_continue", term):
                self.held.append(caller)
                return Reply(NO_REPLY, then=Continue(term))
            case ("reply_continue", value, term):
                return Reply(value, then=Continue(term))
            case ("reply_stop", value, reason):
                return Stop(exit_reason(reason), reply=value)
            case ("reply_crash", value, text):
                caller.reply(value)
                raise Boom(text)
            case "bad":
                return Ignore()
            case ("stop", reason):
                return Stop(exit_reason(reason))
            case other:
                raise Boom(other[1])

    async def handle_cast(self, message: Told) -> Any:
        return await self._do(message.message)

    async def handle_info(self, message: Info) -> Any:
        match message:
            case Exit(process=process, reason=reason):
                # A signal that no process has sent has none to name.
                origin = "a stranger" if process is self.process else self._play.names[process]
                self._note("signal", f"{origin} {words(reason)}")
            case Down(process=process, reason=reason):
                self._note("down", f"{self._play.names[process]} {words(reason)}")
            case Noted():
                return await self._do(message.message)
            case _:
                pass
        return None

    def handle_continue(self, term: str) -> Continue | Stop | None:
        self._note("continue", term)
        match term:
            case "again":
                return Continue("on")
            case "crash":
                raise Boom("continue")
            case "stop":
                return Stop()
            case _:
                return None

    def terminate(self, reason: ExitReason) -> None:
        self._note("terminate", words(reason))

    async def _do(self, message: Message) -> Any:  # noqa: PLR0912 - one arm per message
        match message:
            case ("note", value):
                self._note("note", value)
                self.notes.append(value)
            case ("stop", reason):
                return Stop(exit_reason(reason))
            case ("crash", text):
                raise Boom(text)
            case ("continue", term):
                return Continue(term)
            case ("release", value) if self.held:
                self.held.pop(0).reply(value)
            case ("release_last", value) if self.held:
                self.held.pop().reply(value)
            case ("release_twice", value) if self.held:
                self.held[0].reply(value)
            case ("ask", id_, asked):
                self.busy = True
                answer = await self._play.last(id_).call(Asked(asked), timeout=None)
                self.busy = False
                self._note("got", answer)
            case ("tell", id_, told):
                self._play.last(id_).cast(Told(told))
            case ("link", id_):
                self.link(self._play.last(id_))
            case ("unlink", id_):
                self.unlink(self._play.last(id_))
            case ("watch", id_):
                self._watched.setdefault(id_, []).append(self.monitor(self._play.last(id_)))
            case ("unwatch", id_) if self._watched.get(id_):
                self.demonitor(self._watched[id_].pop())
        return None

    def _note(self, what: str, text: str) -> None:
        self._play.note(f"{what} {self._play.names[self.process]} {text}")


class Stage:
    """One scenario as the library plays it."""

    def __init__(self, root: ActorRef) -> None:
        self._root = root
        self._play = Play({})
        self._clients: list[asyncio.Task[None]] = []

    async def played(self, servers: list[Server], steps: list[Step]) -> list[str]:
        """What happens, in the words of the oracle."""
        for server in servers:
            await self._start(server)
        await settle()
        lines = self._play.take()
        for step in steps:
            answers = await self._step(step)
            await settle()
            lines += ["--", *self._play.take(), *answers]
        return lines

    async def _start(self, server: Server) -> None:
        spec = ChildSpec(id=server.id, start=lambda: Peer(self._play, server), restart="temporary")
        await self._root.start_child(spec)

    async def _step(self, step: Step) -> list[str]:  # noqa: PLR0912 - one arm per kind
        ref = self._play.last(step.id)
        match step.name:
            case "start_server":
                if not ref.alive:
                    await self._start(step.argument)
            case "call":
                self._client(ref.call(Asked(step.argument), timeout=None))
            case "cast":
                ref.cast(Told(step.argument))
            case "info":
                ref.send(Noted(step.argument))
            case "signal" if not ref.alive:
                return ["answer dead"]
            case "signal":
                ref.exit(exit_reason(step.argument))
            case "finish":
                self._client(ref.stop(exit_reason(step.argument)))
            case _ if ref.process.behaviour.busy:
                return ["answer busy"]
            case "suspend":
                self._client(suspend(ref, timeout=None))
            case "resume":
                self._client(resume(ref, timeout=None))
            case "get_state":
                self._client(get_state(ref, timeout=None))
            case "replace_state":
                self._client(replace_state(ref, _replacing(step.argument), timeout=None))
            case other:
                raise ValueError(other)
        return []

    def _client(self, asked: Coroutine[Any, Any, Any]) -> None:
        self._clients.append(asyncio.create_task(self._ask(len(self._clients) + 1, asked)))

    async def _ask(self, number: int, asked: Coroutine[Any, Any, Any]) -> None:
        try:
            value = await asked
        except ActorExited as error:
            answer = f"exit({words(error.reason)})"
        except KeyError:
            answer = "raised"
        else:
            answer = _value(value)
        self._play.note(f"answer c{number} {answer}")


def _replacing(note: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def replace(state: dict[str, Any]) -> dict[str, Any]:
        if note == "crash":
            raise KeyError
        return {**state, "notes": [note]}

    return replace


def _value(value: Any) -> str:
    match value:
        case None:
            return "ok"
        case str():
            return value
        case _:
            return f"[{','.join(value['notes'])}] {len(value['held'])}"


async def played(servers: list[Server], steps: list[Step]) -> list[str]:
    """What happens here, in the words of the oracle."""
    root = await start(DynamicSupervisor, observers=[lambda _: None])
    try:
        return await Stage(root).played(servers, steps)
    finally:
        root.exit(Killed())
        await root.wait()
