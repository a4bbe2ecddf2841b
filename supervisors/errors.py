"""What a caller can meet.

ActorError
├─ ActorExited         the process ended before it answered; ``reason`` is its very exit reason
│  └─ NoProcess        nobody is there
├─ CallTimeout         no answer within the deadline
├─ MailboxFull         the actor takes no more
├─ CircularCall        the call can never be answered: its chain comes back to the caller
├─ StartError          a root did not start
├─ AlreadyRegistered   somebody has the name
└─ BadReturn           a callback returned what it may not

What a supervisor answers to a request (``NotFound``, ``AlreadyStarted`` and so on) is a value, not an exception: see
:mod:`supervisors.results`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from supervisors.exit import ExitReason, NoProc

if TYPE_CHECKING:
    from supervisors.ref import ActorRef


class ActorError(Exception):
    """Base of all."""


class ActorExited(ActorError):
    """The process ended before it answered. ``reason`` is the object that its monitors and its supervisor see."""

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class NoProcess(ActorExited):
    """Nobody has that name, or the process had already ended."""

    def __init__(self, reason: ExitReason | None = None) -> None:
        super().__init__(NoProc() if reason is None else reason)


class CallTimeout(ActorError):
    """No answer within the deadline. The actor knows nothing of it, and may still do what it was asked."""


class MailboxFull(ActorError):
    """The mailbox is at its limit, and its policy is to refuse."""


class CircularCall(ActorError):
    """The call would wait for its own caller. ``chain`` names the processes, from the caller back to itself."""

    def __init__(self, chain: Sequence[str]) -> None:
        super().__init__(" -> ".join(chain))
        self.chain = tuple(chain)


class StartError(ActorError):
    """A root did not start. ``reason`` is why its ``init`` ended."""

    def __init__(self, id_: str, reason: ExitReason) -> None:
        super().__init__(f"{id_}: {reason}")
        self.id = id_
        self.reason = reason


class AlreadyRegistered(ActorError):
    """``holder`` has the name ``name``."""

    def __init__(self, name: str, holder: ActorRef) -> None:
        super().__init__(name)
        self.name = name
        self.holder = holder


class BadReturn(ActorError):
    """A callback of a GenServer returned what it may not: the actor crashes with it."""

    def __init__(self, callback: str, value: object) -> None:
        super().__init__(f"{callback} returned {value!r}")
        self.value = value
