"""A bounded queue with a lane for system messages, and one reader."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, assert_never

from supervisors.errors import MailboxFull

if TYPE_CHECKING:
    from supervisors.process import Process

Cause = Literal["noproc", "late_reply", "mailbox_full"]
Policy = Literal["reject", "drop_new", "drop_old", "block"]


class Kept:
    """A message that knows no bound and is never dropped: a DOWN, an exit, a timer, a request to stop."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message


class Mailbox:
    """What one actor has still to handle.

    * ``system`` goes before everything: the supervisor's request to stop, introspection. It knows no bound.
    * ``messages`` are handled in their turn. Those that came by :meth:`put_unbounded` are :class:`Kept` and do not count.
    * ``blocked`` are messages of senders that wait for room, under the policy ``block``.
    * ``arrivals`` tells when each of ``messages`` came, while somebody wants to know it, and ``arrived`` when the one in hand did.
    * ``handled`` is told how many seconds each message took by ``timer``, where somebody wants to know.

    What it drops, and what is left in it at the end, goes to ``lose`` of its owner, with the cause.
    """

    __slots__ = (
        "_clock",
        "_mark",
        "_marked_at",
        "_owner",
        "_watchers",
        "arrivals",
        "arrived",
        "blocked",
        "drops",
        "handled",
        "high_water",
        "kept",
        "limit",
        "loop",
        "messages",
        "policy",
        "stamp",
        "suspended",
        "system",
        "taken",
        "thread",
        "timer",
        "waiter",
    )

    def __init__(self, limit: int, policy: Policy, loop: asyncio.AbstractEventLoop, owner: Process) -> None:
        self.limit = limit
        self.policy: Policy = policy
        self.loop = loop
        self.thread = get_ident()
        self.messages: deque[Any] = deque()
        self.system: list[Any] = []  # a deque would cost each idle actor half a kilobyte
        self.blocked: dict[Any, tuple[Any, asyncio.Future[None] | None]] | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.suspended = False
        self.kept = 0
        self.taken = 0
        self.drops = 0
        self.high_water = 0
        self.arrivals: deque[float | None] | None = None
        self.arrived: float | None = None
        self.handled: Callable[[float], object] | None = None
        self.timer: Callable[[], float] = loop.time
        self.stamp: Callable[[], float] = loop.time
        self._watchers = 0  # of the arrivals
        self._owner = owner
        self._clock = loop.time
        self._mark = 0  # the number, counted from the first message, of the one whose age is known; 0: none
        self._marked_at = 0.0

    @property
    def depth(self) -> int:
        """How many messages wait in turn."""
        return len(self.messages)

    @property
    def full(self) -> bool:
        """Whether the bound is reached."""
        return len(self.messages) - self.kept >= self.limit

    def put(self, message: Any, waiting: Any = None) -> None:
        """Queue ``message`` by the policy. Raises :class:`MailboxFull` where it is refused.

        ``waiting`` is a call that waits for its reply anyway, so under ``block`` it may wait for room as well.
        """
        if len(self.messages) - self.kept >= self.limit:
            match self.policy:
                case "block" if waiting is not None:
                    self.block(waiting, message, None)
                    return
                case "reject" | "block":
                    raise MailboxFull(f"{len(self.messages)} messages wait")
                case "drop_new":
                    self._drop(message)
                    return
                case "drop_old":
                    self._drop_old()
                case _:
                    assert_never(self.policy)
        self._append(message)

    def put_unbounded(self, message: Any) -> None:
        """Queue ``message`` in its turn, whatever the bound."""
        self.kept += 1
        self._append(Kept(message))

    def put_system(self, message: Any) -> None:
        """Queue ``message`` before all others."""
        self._check_thread()
        self.system.append(message)
        self.wake()

    def wake(self) -> None:
        """Let the reader look again."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():  # pragma: no branch - the reader may have been cancelled in this turn
                waiter.set_result(None)

    def age(self) -> float:
        """For how long the oldest message has waited, at least."""
        return self._clock() - self._marked_at if self.messages and self._mark > self.taken else 0.0

    def watch_arrivals(self, clock: Callable[[], float]) -> None:
        """Note when messages come, by ``clock``, or by that of the first who asked. Of those that wait already nobody knows."""
        self._watchers += 1
        if self.arrivals is None:
            self.stamp = clock
            self.arrivals = deque([None] * len(self.messages))

    def forget_arrivals(self) -> None:
        """Undo one :meth:`watch_arrivals`."""
        self._watchers -= 1
        if not self._watchers:
            self.arrivals = self.arrived = None

    def _check_thread(self) -> None:
        if get_ident() != self.thread:
            raise RuntimeError(
                "an actor is reached from its own loop only; from elsewhere by loop.call_soon_threadsafe"
            )

    def _append(self, message: Any) -> None:
        messages, waiter = self.messages, self.waiter
        if waiter is not None and get_ident() != self.thread:
            self._check_thread()  # to wake the reader from another thread would lose it for good
        messages.append(message)
        if self.arrivals is not None:
            self.arrivals.append(self.stamp())
        depth = len(messages)
        self.high_water = max(self.high_water, depth)
        if self._mark <= self.taken:
            self._mark = self.taken + depth
            self._marked_at = self._clock()
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _drop(self, message: Any) -> None:
        self.drops += 1
        self._owner.lose(message, "mailbox_full")

    def _drop_old(self) -> None:
        for index, message in enumerate(self.messages):  # pragma: no branch - full is full of what may go
            if type(message) is not Kept:
                del self.messages[index]
                if self.arrivals is not None:
                    del self.arrivals[index]
                self.taken += 1
                self._drop(message)
                return

    # -- senders that wait for room ------------------------------------------------------------------------------------

    def block(self, sender: Any, message: Any, admitted: asyncio.Future[None] | None) -> None:
        """Queue ``message`` of ``sender`` behind the bound. ``admitted`` is told when it is let in."""
        if self.blocked is None:
            self.blocked = {}
        self.blocked[sender] = message, admitted

    def admit(self) -> None:
        """Let blocked messages in, as far as there is room."""
        blocked = self.blocked
        while blocked and not self.full:
            message, admitted = blocked.pop(next(iter(blocked)))
            if admitted is not None:
                if admitted.done():
                    continue
                admitted.set_result(None)
            self._append(message)

    def withdraw(self, sender: Any) -> None:
        """``sender`` waits no more."""
        if self.blocked:
            self.blocked.pop(sender, None)

    def close(self, last: Any) -> None:
        """Empty it for good: nobody will handle what is in it. ``last`` is for a reader that goes on all the same."""
        blocked, self.blocked = self.blocked or {}, None
        for message, admitted in blocked.values():
            self._owner.lose(message, "noproc")
            if admitted is not None and not admitted.done():
                admitted.set_result(None)
        for message in self.messages:
            if type(message) is not Kept:
                self._owner.lose(message, "noproc")
        self.messages.clear()
        if self.arrivals is not None:
            self.arrivals.clear()
        self.system[:] = [last]
        self.kept = 0
