"""A watch of one process by another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisors.exit import ExitReason, NoProc
from supervisors.messages import Down

if TYPE_CHECKING:
    from supervisors.process import Process


class Monitor:
    """One watch of one process by an actor, which gets one :class:`Down` for it unless the monitor is dropped before."""

    __slots__ = ("dropped", "process", "watcher")

    def __init__(self, process: Process, watcher: Process) -> None:
        self.process = process
        self.watcher = watcher
        self.dropped = False
        if process.reason is not None:
            self.fire(NoProc())
            return
        process.monitors[self] = None
        if watcher.watching is None:
            watcher.watching = {}
        watcher.watching[self] = None

    def fire(self, reason: ExitReason) -> None:
        """The process has ended. The message waits in turn, behind what the process had sent before it ended."""
        watcher = self.watcher
        if watcher.watching is not None:
            watcher.watching.pop(self, None)
        if watcher.reason is None and watcher.mailbox is not None:  # pragma: no branch - both may end in one turn
            watcher.mailbox.put_unbounded(Down(self, self.process, reason))

    def drop(self) -> None:
        """Tell nothing from now on, not even what is queued already."""
        self.dropped = True
        self.leave()
        if self.watcher.watching is not None:
            self.watcher.watching.pop(self, None)

    def leave(self) -> None:
        """The process knows it no more."""
        self.process.monitors.pop(self, None)
