"""The words in which both sides tell what happened, and what the scenarios have in common."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable
from typing import Any, Literal

from attrs import frozen

from supervisors import (
    ActorExited,
    ActorRef,
    AlreadyPresent,
    AlreadyStarted,
    BadReturn,
    CircularCall,
    Crashed,
    Done,
    ExitReason,
    Ignored,
    Killed,
    NoProc,
    Normal,
    NotFound,
    Process,
    Restarting,
    Running,
    Shutdown,
    StartFailed,
)
from supervisors.results import FailedToStartChild
from supervisors.testing import settle
from tests.supervisors.actors import Boom

Reason = Literal["normal", "shutdown", "killed"] | tuple[Literal["shutdown", "boom"], str]
"""An exit reason as Erlang writes it."""
Outcome = Literal["ok", "ignore"] | tuple[Literal["crash"], str]
Init = Outcome | tuple[Literal["stop"], Reason]


def exit_reason(reason: Reason) -> ExitReason:
    """The same as the library writes it."""
    match reason:
        case "normal":
            return Normal()
        case "shutdown":
            return Shutdown()
        case "killed":
            return Killed()
        case ("shutdown", detail):
            return Shutdown(detail)
        case (_, text):
            return Crashed(Boom(text))


def words(reason: ExitReason) -> str:  # noqa: PLR0911 - one arm per reason
    """A reason in the words of the trace."""
    match reason:
        case Normal():
            return "normal"
        case Shutdown(None):
            return "shutdown"
        case Shutdown(FailedToStartChild(id_, why)):
            return f"unstarted({id_}, {words(why)})"
        case Shutdown(detail):
            return f"shutdown({detail})"
        case Killed():
            return "killed"
        case NoProc():
            return "noproc"
        case Crashed(Boom() as boom):
            return f"crash({boom})"
        case Crashed(ActorExited() as exited):
            return f"lost({words(exited.reason)})"
        case Crashed(CircularCall()):
            return "lost(calling_self)"
        case Crashed(BadReturn()):
            return "bad_return"
        case Crashed(ValueError()):
            return "invalid"
        case Crashed(error):
            return f"other({error!r})"


@frozen
class Script:
    """What the lives of one id do in ``init``, one after the other and then well; what all of them do in ``terminate``."""

    inits: list[Init]
    terminate: Outcome


class Play:
    """What happens in one scenario."""

    def __init__(self, scripts: dict[str, Script]) -> None:
        self.scripts = scripts
        self.events: list[str] = []
        self.pids: dict[str, Process] = {}
        self._last: dict[str, Process] = {}
        self.names: dict[Process, str] = {}
        self.halted: set[Process] = set()  # by a client
        self._lives: Counter[str] = Counter()

    def born(self, id_: str, process: Process) -> Init:
        """A new life of ``id_`` begins; what its ``init`` is to do."""
        self._lives[id_] += 1
        life = self._lives[id_]
        name = self.names[process] = f"{id_}#{life}"
        self.pids[id_] = self._last[id_] = process
        self.note(f"init {name}")
        process.on_exit(self._exited)
        inits = self.scripts[id_].inits if id_ in self.scripts else []
        return inits[life - 1] if life <= len(inits) else "ok"

    def deaf_in_erlang(self, process: Process) -> bool:
        """Whether ``terminate`` runs here and not in Erlang: where the supervisor stops a process that does not trap exits.

        Here the request to stop is a message, which every actor hears; ``trap_exit`` is for links.
        """
        return process.stopping and process not in self.halted and not process.behaviour.trap_exit

    def note(self, event: str) -> None:
        """Something happens."""
        self.events.append(event)

    def take(self) -> list[str]:
        """What has happened since the last time."""
        events, self.events = self.events, []
        return events

    def ref(self, id_: str) -> ActorRef | None:
        """The present life of ``id_``."""
        process = self.pids.get(id_)
        return None if process is None else ActorRef(process)

    def last(self, id_: str) -> ActorRef:
        """The last life of ``id_``, which may be over."""
        return ActorRef(self._last[id_])

    def _exited(self, process: Process, reason: ExitReason) -> None:
        if process.started:  # Erlang tells the starter of a failure first, and then ends the process, at some time
            self.note(f"exit {self.names[process]} {words(reason)}")
        self.pids = {id_: each for id_, each in self.pids.items() if each is not process}

    async def answer(self, asked: Awaitable[Any]) -> str:
        """What a client gets."""
        try:
            return f"answer {self._words(await asked)}"
        except ActorExited as error:
            return f"answer exit({words(error.reason)})"
        except ValueError:
            return "answer failed(invalid)"

    def _words(self, answer: Any) -> str:  # noqa: PLR0911 - one arm per answer
        match answer:
            case Done() | None:
                return "ok"
            case ActorRef(process=process):
                return f"ok {self.names[process]}"
            case Ignored():
                return "ignored"
            case AlreadyStarted(ActorRef(process=process)):
                return f"already_started {self.names[process]}"
            case AlreadyPresent():
                return "already_present"
            case NotFound():
                return "not_found"
            case Running():
                return "running"
            case Restarting():
                return "restarting"
            case StartFailed(reason):
                return f"failed({words(reason)})"
            case _:
                return str(answer)


EVENTS = ("init", "exit", "terminate", "signal", "down", "note", "continue", "got", "answer c")


def by_process(lines: list[str]) -> list[str]:
    """The events of one step sorted by process, each one's in their order.

    Erlang promises an order between two processes only, and one scheduler does not make it a promise. When a supervisor is killed, its
    children outlive it there, and meet their successors; here they end before it does. That several others have ended, and that one
    has, by a link and by a monitor, is told in any order.
    """
    own = sorted((line for line in lines if line.startswith(EVENTS)), key=lambda line: line.split()[1])
    runs = itertools.groupby(own, key=lambda line: (line.startswith(("signal", "down")), line.split()[1]))
    tidy = [line for (ends, _), run in runs for line in (sorted(run) if ends else run)]
    return tidy + [line for line in lines if not line.startswith(EVENTS)]


async def answered(asked: list[asyncio.Task[str] | str]) -> list[str]:
    """What has been answered; the rest is given up."""
    answers = []
    for each in asked:
        if isinstance(each, str):
            answers.append(each)
        elif each.done():
            answers.append(each.result())
        else:
            each.cancel()
            answers.append("answer waits")
    await settle()
    return answers
