"""What a call can meet.

ActorError
├─ NoProcess      nobody there
├─ ActorExited    it ended before it answered
├─ CallTimeout    no answer in time
├─ MailboxFull    it takes no more
├─ AlreadyStarted, NotFound, StartFailed
"""

from __future__ import annotations

from supervisors.exit import ExitReason


class ActorError(Exception):
    """Base of all."""


class NoProcess(ActorError):
    """Nobody has that name, or the process is dead."""


class ActorExited(ActorError):
    """The process ended before it answered."""

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class CallTimeout(ActorError):
    """No answer within the time given."""


class MailboxFull(ActorError):
    """The mailbox is at its limit."""


class NotFound(ActorError):
    """No such child."""


class AlreadyStarted(ActorError):
    """A child of that id runs, or is being restarted."""


class StartFailed(ActorError):
    """A child did not start."""

    def __init__(self, id_: str, reason: ExitReason) -> None:
        super().__init__(f"{id_}: {reason}")
        self.id = id_
        self.reason = reason
