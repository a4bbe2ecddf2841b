"""A watch over the event loop: how late it is, and who holds it up.

There is no pre-emption: one handler that computes for a second stops every actor for a second. A timer of the loop can tell afterwards how
late it was; only a thread beside it can look while it is stuck, and see where.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field

from supervisors.events import LoopBlocked, ReportLimit
from supervisors.gen_server import GenServer

_WINDOW_SECONDS: Final = 60.0
_STACK_FRAMES: Final = 30


@define(slots=True, eq=False)
class LoopLag:
    """How late the loop was, in seconds: at the last look, and at most within the last minute.

    ``looks`` counts those that were taken, ``blocked`` what took too long.

    One writer, the monitor, whose crash leaves it as it is.
    """

    last: float = 0.0
    looks: int = 0
    blocked: int = 0
    _late: deque[tuple[float, float]] = field(factory=deque)  # when, how late: only those that nothing later exceeds

    @property
    def worst(self) -> float:
        """The most within the last minute."""
        while self._late and self._late[0][0] < time.monotonic() - _WINDOW_SECONDS:
            self._late.popleft()
        return self._late[0][1] if self._late else 0.0

    def observe(self, seconds: float) -> None:
        """Note one look."""
        self.last = seconds
        self.looks += 1
        while self._late and self._late[-1][1] <= seconds:
            self._late.pop()
        self._late.append((time.monotonic(), seconds))


class LoopMonitor(GenServer[Any]):
    """Looks at its loop every ``interval`` seconds, and reports what holds it up for longer than ``threshold`` seconds.

    >>> from supervisors import LoopLag, LoopMonitor, start
    >>> async def main() -> bool:
    ...     lag = LoopLag()
    ...     monitor = await start(lambda: LoopMonitor(lag, interval=0.02, threshold=0.05))
    ...     time.sleep(0.2)  # what no handler should do
    ...     await asyncio.sleep(0.1)
    ...     await monitor.stop()
    ...     return lag.worst > 0.05 and lag.blocked == 1
    >>> logging.disable()
    >>> asyncio.run(main())
    True
    >>> logging.disable(logging.NOTSET)

    A hold-up counts from the moment at which the next look was due: one of ``threshold`` and ``interval`` together is found in any case,
    one of less than ``threshold`` in none. While the loop is stuck, its thread logs the stack; when it goes on, observers are told by a
    :class:`~supervisors.events.LoopBlocked`. Both are limited, as crash reports are; ``blocked`` counts all. It measures real time: on a
    loop of virtual time it finds nothing.
    """

    def __init__(self, lag: LoopLag | None = None, *, interval: float = 0.2, threshold: float = 0.25) -> None:
        self._lag = LoopLag() if lag is None else lag
        self._interval = interval
        self._threshold = threshold
        self._reports = ReportLimit()

    def init(self) -> None:
        """Start the watch."""
        loop = asyncio.get_running_loop()
        watch = _Watch(self, loop, threading.get_ident(), self._interval, self._threshold)
        self.process.on_exit(lambda *_: watch.stop())
        watch.start()

    def status(self) -> Mapping[str, object]:
        """The last lag, and the worst of the last minute, in seconds; how often the loop was blocked."""
        lag = self._lag
        return {"lag_seconds": round(lag.last, 4), "worst_seconds": round(lag.worst, 4), "blocked": lag.blocked}

    def late(self, seconds: float, found: tuple[str, str] | None) -> None:
        """One look of the loop at itself: how late it was, and what its watch has found meanwhile."""
        self._lag.observe(seconds)
        if seconds < self._threshold:
            return
        self._lag.blocked += 1
        if self._reports.admit(time.monotonic()) is not None:
            task, stack = ("unknown", "") if found is None else found
            self.process.system.emit(LoopBlocked(self.process, seconds, task, stack))


class _Watch:
    """The beat in the loop, and the thread that listens to it."""

    def __init__(
        self, monitor: LoopMonitor, loop: asyncio.AbstractEventLoop, thread: int, interval: float, threshold: float
    ) -> None:
        self._monitor = monitor
        self._loop = loop
        self._of = thread
        self._interval = interval
        self._threshold = threshold
        self._over = threading.Event()
        self._due = 0.0  # monotonic; when the next beat should come
        self._found: tuple[float, tuple[str, str]] | None = None  # which beat was late, and what was seen
        self._reports = ReportLimit()
        self._beating: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._next()
        threading.Thread(target=self._listen, name="loop monitor", daemon=True).start()

    def stop(self) -> None:
        self._over.set()
        assert self._beating is not None
        self._beating.cancel()

    def _next(self) -> None:
        self._due = time.monotonic() + self._interval
        self._beating = self._loop.call_later(self._interval, self._beat)

    def _beat(self) -> None:
        due, found = self._due, self._found
        seen = found[1] if found is not None and found[0] == due else None
        self._monitor.late(max(0.0, time.monotonic() - due), seen)
        self._next()

    def _listen(self) -> None:
        """The thread: it only reads, and what it finds it leaves for the beat that is late."""
        seconds, looked = self._interval + self._threshold, 0.0
        while not self._over.wait(seconds):
            due = self._due
            late = time.monotonic() - due
            if late < self._threshold:
                seconds = self._threshold - late
                continue
            seconds = self._interval
            if due != looked and self._reports.admit(time.monotonic()) is not None:
                task, stack = self._look()
                self._found = due, (task, stack)
                logging.getLogger("supervisors").warning(
                    "the event loop has been blocked for %.2f s by %s:\n%s", late, task, stack
                )
            looked = due

    def _look(self) -> tuple[str, str]:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._of)  # noqa: SLF001 - there is no other way to see another thread's stack
        stack = "".join(traceback.format_stack(frame, _STACK_FRAMES)) if frame is not None else ""
        return "a callback" if task is None else task.get_name(), stack
