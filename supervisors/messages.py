"""Messages are frozen attrs classes; a call carries the type of its reply.

>>> from attrs import frozen
>>> from supervisors import Call, Cast
>>> @frozen
... class Withdraw(Call[int]):
...     amount: int
>>> @frozen
... class Deposit(Cast):
...     amount: int

``await account.call(Withdraw(5))`` is then an ``int`` for the type checker, and ``account.cast(Deposit(5))`` has no answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import frozen

if TYPE_CHECKING:
    from supervisors.exit import ExitReason
    from supervisors.monitor import Monitor
    from supervisors.process import Process

R = TypeVar("R")


class Call(Generic[R]):
    """Base of requests. ``class Acquire(Call[Lease | Refused])`` makes ``await ref.call(Acquire())`` a ``Lease | Refused``."""

    __slots__ = ()

    def abandon(self, reply: R) -> None:
        """The caller is gone (cancelled, timed out, dead) and will never see ``reply``: give back what it holds.

        It runs in whatever task finds this out, the actor's own included, so it casts and does not wait.
        """


class Cast:
    """Base of messages without an answer. Any object may be cast; this one is for the reader and the type checker."""

    __slots__ = ()


class Info:
    """Base of messages that no client sends: timers, :class:`Down`, :class:`Exit`, a task's report to its actor."""

    __slots__ = ()


@frozen(eq=False)
class Down(Info):
    """A monitored process has ended. One per monitor; ``reason`` is ``NoProc()`` if it had ended before it was monitored."""

    monitor: Monitor
    process: Process
    reason: ExitReason


@frozen(eq=False)
class Exit(Info):
    """A linked process has ended, or somebody sent an exit signal: what an actor that traps exits gets instead of dying."""

    process: Process
    reason: ExitReason


@frozen
class TimedOut(Info):
    """No message came within the seconds of the :class:`~supervisors.Timeout` that a callback returned."""


@frozen(eq=False)
class ChildExit(Info):
    """To a supervisor: a child has ended. ``process`` tells which of its incarnations."""

    process: Process
    reason: ExitReason
