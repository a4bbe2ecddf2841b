"""One supervised task: who it is, how it ended, who waits for that. The only place that makes tasks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

from supervisors.exit import Crashed, ExitReason, Killed, NoProc, Normal

if TYPE_CHECKING:
    from supervisors.mailbox import Mailbox
    from supervisors.ref import Caller

_pids = itertools.count(1)
_current: ContextVar[Process | None] = ContextVar("supervisors.process", default=None)
_KILL_TRIES = 10
_KILL_GRACE_SECONDS = 0.2

OnExit = Callable[["Process", ExitReason], None]


def current_process() -> Process | None:
    """The process in which the caller runs, if it runs in one."""
    return _current.get()


class Monitor:
    """One watch of one process. Its end is told once, unless the monitor is dropped before."""

    __slots__ = ("_deliver", "process")

    def __init__(self, process: Process, deliver: Callable[[Monitor, ExitReason], None]) -> None:
        self.process = process
        self._deliver = deliver
        if process.reason is not None:
            deliver(self, NoProc())
        else:
            process.monitors[self] = None

    def fire(self, reason: ExitReason) -> None:
        """The process has ended."""
        self._deliver(self, reason)

    def drop(self) -> None:
        """Tell nothing from now on."""
        self.process.monitors.pop(self, None)


class Process:
    """A task with an exit record that is set exactly once."""

    __slots__ = (
        "__weakref__",
        "behaviour",
        "callers",
        "done",
        "incarnation",
        "injected",
        "kill_requested",
        "mailbox",
        "monitors",
        "name",
        "on_exits",
        "path",
        "pid",
        "reason",
        "task",
        "zombie",
    )

    def __init__(
        self, name: str | None = None, path: str = "", incarnation: int = 1, mailbox: Mailbox | None = None
    ) -> None:
        self.pid = next(_pids)
        self.name = name
        self.path = path
        self.incarnation = incarnation
        self.mailbox = mailbox
        self.task: asyncio.Task[Any] | None = None
        self.reason: ExitReason | None = None
        self.kill_requested = False
        self.zombie = False
        self.behaviour: Any = None
        self.injected: BaseException | None = None
        self.monitors: dict[Monitor, None] = {}
        self.callers: dict[Caller[Any], None] = {}
        self.on_exits: list[OnExit] = []
        self.done: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return (
            f"<Process {self.pid} {self.path or self.name}#{self.incarnation} {'alive' if self.alive else self.reason}>"
        )

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.reason is None

    def run(self, main: Coroutine[Any, Any, ExitReason], context: Context | None = None) -> None:
        """Make the task."""
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self._main(main), name=self.path or self.name, context=context)
        self.task.add_done_callback(self._never_ran)

    def _never_ran(self, task: asyncio.Task[Any]) -> None:
        if self.reason is None:  # cancelled before its first step
            self.exited(Killed())

    async def _main(self, main: Coroutine[Any, Any, ExitReason]) -> None:
        _current.set(self)
        reason: ExitReason = Killed()
        try:
            reason = await main
        except asyncio.CancelledError:
            reason = Crashed(self.injected) if self.injected is not None else Killed()
        except (KeyboardInterrupt, SystemExit) as error:
            reason = Crashed(error)
            raise
        except BaseException as error:  # noqa: BLE001 - the process border
            reason = Crashed(error)
        finally:
            self.exited(reason)

    def exited(self, reason: ExitReason) -> None:
        """Set the exit record and tell everybody who waits for it."""
        if self.reason is not None:
            return
        self.reason = reason
        self.task = None
        callers, self.callers = self.callers, {}
        for caller in callers:
            caller.target_exited(reason)
        for callback in self.on_exits:
            callback(self, reason)
        self.on_exits.clear()
        monitors, self.monitors = self.monitors, {}
        for monitor in monitors:
            monitor.fire(reason)
        if self.done is not None and not self.done.done():
            self.done.set_result(None)

    def on_exit(self, callback: OnExit) -> None:
        """Call ``callback`` when it ends (at once if it has), before monitors are told."""
        if self.reason is not None:
            callback(self, self.reason)
        else:
            self.on_exits.append(callback)

    async def wait(self) -> ExitReason:
        """Return its exit reason once it has ended."""
        if self.reason is None:
            if self.done is None:
                self.done = asyncio.get_running_loop().create_future()
            await asyncio.shield(self.done)
        assert self.reason is not None
        return self.reason

    async def wait_for(self, seconds: float | None) -> bool:
        """Whether it ended within ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            return False
        return True

    async def kill(self) -> None:
        """Cancel it until it ends; one that swallows every cancellation is given up as a zombie."""
        self.kill_requested = True
        for _ in range(_KILL_TRIES):
            if self.reason is not None:
                return
            if self.task is not None:
                self.task.cancel()
            if await self.wait_for(_KILL_GRACE_SECONDS):
                return
        self.zombie = True
        self.exited(Killed())

    def crash(self, error: BaseException) -> None:
        """Make it end as by a bug that raised ``error``."""
        if self.reason is None and self.task is not None:
            self.injected = error
            self.task.cancel()


class Adopted:
    """The scope of a task that was made elsewhere and is now a process of the tree: it registers, never wraps."""

    __slots__ = ("_process", "_register", "_token")

    def __init__(self, register: Callable[[Process], None], name: str | None) -> None:
        self._register = register
        self._process = Process(name)

    async def __aenter__(self) -> Process:
        process = self._process
        process.task = asyncio.current_task()
        self._token = _current.set(process)
        self._register(process)
        return process

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        _current.reset(self._token)
        if error is None:
            self._process.exited(Normal())
        elif isinstance(error, asyncio.CancelledError):
            self._process.exited(Killed())
        else:
            self._process.exited(Crashed(error))
