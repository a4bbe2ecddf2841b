"""One call in progress, in the hands of the actor that owes the reply."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from supervisors.errors import ActorExited, CallTimeout, MailboxFull

if TYPE_CHECKING:
    from supervisors.exit import ExitReason
    from supervisors.mailbox import Cause
    from supervisors.messages import Call
    from supervisors.process import Process
    from supervisors.system import System

R = TypeVar("R")


class Caller(Generic[R]):
    """What ``handle_call`` gets beside the message: answer it now, later, from elsewhere, or forward it.

    * ``process`` - the caller's process, if it runs in one: monitor it to learn of its end.
    * ``deadline`` - when the caller gives up, in loop time; ``None`` if never.
    * ``alive`` - whether it still waits.

    A second answer is dropped. One that comes too late goes to ``abandon`` of the message, and is counted as a dead letter.
    """

    __slots__ = ("_answered", "_future", "_message", "_system", "_target", "deadline", "process")

    def __init__(
        self,
        future: asyncio.Future[R],
        message: Call[R],
        target: Process,
        deadline: float | None,
        process: Process | None,
    ) -> None:
        self._future = future
        self._message = message
        self._target: Process | None = target
        self._system: System = target.system
        self._answered = False
        self.deadline = deadline
        self.process = process

    def __repr__(self) -> str:
        return f"<Caller {self.process.path if self.process else 'outside'} {'waits' if self.alive else 'gone'}>"

    @property
    def alive(self) -> bool:
        """Whether somebody still waits for the reply."""
        return not self._future.done()

    def reply(self, value: R) -> None:
        """Answer with ``value``."""
        self.leave()
        if not self._future.done():
            self._answered = True
            self._future.set_result(value)
        elif not self._answered:
            self._answered = True
            self._system.dead_letters["late_reply"] += 1
            self.abandon(value)

    def fail(self, error: Exception) -> None:
        """Answer with an exception, which is raised at the caller."""
        self.leave()
        if not self._future.done():
            self._answered = True
            self._future.set_exception(error)
        elif not self._answered:
            self._answered = True
            self._system.dead_letters["late_reply"] += 1

    # -- for the library -----------------------------------------------------------------------------------------------

    @property
    def target(self) -> Process | None:
        """Who owes the reply now."""
        return self._target

    def move(self, target: Process, message: Call[R]) -> None:
        """``target`` owes the reply from now on, and has seen ``message``."""
        self.leave()
        self._message = message
        if not self._future.done():  # nobody would take a dead caller out again
            self._target = target
            target.callers[self] = None

    def leave(self) -> None:
        """Nobody owes a reply any more."""
        target = self._target
        if target is not None:
            self._target = None
            target.callers.pop(self, None)
            if target.mailbox is not None and target.mailbox.blocked:
                target.mailbox.withdraw(self)

    def target_exited(self, reason: ExitReason) -> None:
        """Whoever owed the reply has ended."""
        self._target = None
        if not self._future.done():  # pragma: no branch - its deadline may have passed in this turn
            self._future.set_exception(ActorExited(reason))

    def expire(self) -> None:
        """The deadline has passed."""
        if not self._future.done():
            self._future.set_exception(CallTimeout())

    def abandon(self, value: R) -> None:
        """Hand a reply that nobody sees back to the message."""
        try:
            self._message.abandon(value)
        except Exception as error:  # noqa: BLE001 - a mistake in it must neither crash the actor nor hide a cancellation
            message = f"abandon() of {type(self._message).__name__} failed"
            self._future.get_loop().call_exception_handler({"message": message, "exception": error})


class Envelope:
    """A call in a mailbox."""

    __slots__ = ("caller", "message")

    def __init__(self, message: Call[Any], caller: Caller[Any]) -> None:
        self.message = message
        self.caller = caller


def lost(system: System, message: Any, cause: Cause) -> None:
    """Count a message that reached nobody. A call that was dropped tells its caller; one left at exit is told the reason there."""
    system.dead_letters[cause] += 1
    if cause == "mailbox_full" and type(message) is Envelope:
        message.caller.fail(MailboxFull("dropped"))
