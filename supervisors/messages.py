"""Messages are frozen attrs classes; a call carries the type of its reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import frozen

if TYPE_CHECKING:
    from supervisors.exit import ExitReason
    from supervisors.process import Monitor, Process

R = TypeVar("R")


class Call(Generic[R]):
    """Base of requests. ``class Acquire(Call[Lease | Refused])`` makes ``await ref.call(Acquire())`` a ``Lease | Refused``."""

    def abandon(self, reply: R) -> None:
        """The caller is gone (cancelled, timed out, dead) and will never see ``reply``: give back what it holds."""


class Cast:
    """Base of messages without an answer."""


class Info:
    """Base of messages that nobody of the client API sends: timers, :class:`Down`, a child's report to its actor."""


@frozen(eq=False)
class Down(Info):
    """A monitored process has ended. One per monitor."""

    monitor: Monitor
    process: Process
    reason: ExitReason


@frozen(eq=False)
class ChildExit(Info):
    """To a supervisor: a child has ended. ``process`` tells which of its incarnations."""

    process: Process
    reason: ExitReason
