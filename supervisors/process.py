"""One supervised task: who it is, how it ended, who waits for that. The only place that makes tasks.

A process ends once, with one reason, whatever ends it: its own return, an exception, an exit signal, a kill, a stranger's ``cancel()``.
Everything that depends on it is settled at that moment and in this order: its names are free, its callers fail, ``on_exit`` callbacks
run, links and monitors are told, those that wait go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, Token, copy_context
from typing import TYPE_CHECKING, Any

from supervisors.caller import Caller, lost
from supervisors.child_spec import ShutdownPolicy
from supervisors.ending import interrupt_in, reason_of
from supervisors.events import Exited, Started, crash_report
from supervisors.exit import Crashed, ExitReason, Killed, Normal, Shutdown
from supervisors.messages import ChildExit, Exit
from supervisors.monitor import Monitor
from supervisors.results import Ignored, StartFailed
from supervisors.signals import Doomed, StopRequest

if TYPE_CHECKING:
    from supervisors.mailbox import Cause, Mailbox
    from supervisors.system import System

_current: ContextVar[Process | None] = ContextVar("supervisors.process", default=None)
_CANCELS = 10  # one that swallows so many cancellations is given up
_CANCEL_SECONDS = 0.2  # between two of them
_ORPHAN_SECONDS = 5.0  # for a child whose parent is killed, whatever its own policy allows

OnExit = Callable[["Process", ExitReason], object]
Main = Callable[[], Coroutine[Any, Any, ExitReason]]


def current_process() -> Process | None:
    """The process in which the caller runs, if it runs in one."""
    return _current.get()


def enter(process: Process) -> Token[Process | None]:
    """From here on the current task runs in ``process``."""
    return _current.set(process)


def leave(token: Token[Process | None]) -> None:
    """Undo :func:`enter`."""
    _current.reset(token)


class Process:
    """A task with an exit record that is set exactly once.

    * ``pid``, ``path``, ``name``, ``incarnation`` - who it is: its number in its tree, its place, its registered name, which life of its
      child spec.
    * ``reason`` - the exit record; ``None`` while it lives.
    * ``mailbox``, ``behaviour`` - of an actor; a bare task has neither.
    * ``zombie`` - it was killed, swallowed every cancellation and still runs. The tree goes on without it.
    """

    # Most processes need few of these, and one is made for each request: so they are defaults of the class, set when they differ.

    task: asyncio.Task[None] | None = None
    reason: ExitReason | None = None
    behaviour: Any = None  # whoever looks at it knows what it is
    mailbox: Mailbox | None = None
    zombie: bool = False
    # How it starts.
    starting: asyncio.Future[Ignored | StartFailed | None] | None = None
    started: bool = False
    ignored: bool = False
    announced: bool = False  # the observers know of it
    reports_exit: bool = False  # its parent is a supervisor that waits for its exit
    # How it is about to end.
    doomed: ExitReason | None = None  # the reason it must end with
    killed: bool = False  # by a kill, which nothing may hold up
    interrupt: BaseException | None = None  # a crash from elsewhere, as if its handler had raised
    stopping: bool = False  # asked to stop
    ending: bool = False  # terminate runs, or has run
    closing: bool = False  # its own code is over
    reported: BaseException | None = None  # the crash that observers were told of
    # Who depends on it, and on whom it does.
    children: dict[Process, ShutdownPolicy] | None = None  # what it has started or adopted, and how that is stopped
    watching: dict[Monitor, None] | None = None
    links: dict[Process, None] | None = None
    timers: set[asyncio.TimerHandle] | None = None
    calling: Caller[Any] | None = None  # kept where circular calls are looked for
    attends: Process | None = None  # the child that a supervisor starts or stops
    _on_exits: list[OnExit] | None = None
    _releases: list[Callable[[Process], None]] | None = None
    _waiters: dict[asyncio.Future[None], None] | None = None
    _timer: asyncio.TimerHandle | None = None
    _tries: int = 0

    def __init__(
        self,
        system: System,
        label: str | None,
        *,
        parent: Process | None,
        name: str | None = None,
        incarnation: int = 1,
    ) -> None:
        self.system = system
        self.pid = next(system.pids)
        self._label = label
        self.parent = parent
        self.name = name
        self.incarnation = incarnation
        self.callers: dict[Caller[Any], None] = {}
        self.monitors: dict[Monitor, None] = {}

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.path}#{self.incarnation} {'alive' if self.reason is None else self.reason}>"

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.reason is None

    @property
    def serves(self) -> bool:
        """Whether it has started, and nothing has begun to end it."""
        ends = self.stopping or self.ending or self.closing or self.doomed is not None or self.reason is not None
        return self.started and not ends

    @property
    def path(self) -> str:
        """Its place in the tree, from the root: ``root/fleet/openai``."""
        return self.label if self.parent is None else f"{self.parent.path}/{self.label}"

    @property
    def label(self) -> str:
        """The last part of its path: the id of its child spec, its name, or its number."""
        return str(self.pid) if self._label is None else self._label

    # -- life ----------------------------------------------------------------------------------------------------------

    def run(self, main: Main, context: Context | None = None) -> None:
        """Make the task, in a copy of ``context`` (by default of the present one)."""
        context = copy_context() if context is None else context.copy()
        task = asyncio.get_running_loop().create_task(self._main(main), name=self.path, context=context)
        task.add_done_callback(self._task_ended)
        if self.reason is None:  # pragma: no branch - an eager task may be over already
            self.task = task

    async def launch(self, main: Main, context: Context, timeout: float | None) -> Ignored | StartFailed | None:
        """Run it, and return once it has said that it :meth:`begin`s, or has ended without."""
        loop = asyncio.get_running_loop()
        starting: asyncio.Future[Ignored | StartFailed | None] = loop.create_future()
        self.starting = starting
        self.run(main, context)
        timer = None if timeout is None else loop.call_later(timeout, self._start_timed_out, timeout)
        try:
            return await starting
        finally:
            if self.started:
                self.starting = None
            if timer is not None:
                timer.cancel()

    def begin(self) -> None:
        """It has started: whoever waits in :meth:`launch` goes on."""
        self.started = True
        self.announce()
        if self.starting is not None and not self.starting.done():
            self.starting.set_result(None)

    def announce(self) -> None:
        """Tell the observers of this process, from now on."""
        self.announced = True
        self.system.emit(Started(self))

    def _start_timed_out(self, timeout: float) -> None:
        if (
            not self.started
        ):  # pragma: no branch - the timer of one that has started is cancelled; it may have fired in the same turn
            self.die(Crashed(TimeoutError(f"init took longer than {timeout:g} s")))

    async def _main(self, main: Main) -> None:
        self.task = asyncio.current_task()
        _current.set(self)
        reason: ExitReason = Killed()
        try:
            try:
                reason = await main()
            except BaseException as error:
                reason = self._ended_by(error)
                if isinstance(error, GeneratorExit):  # the task is thrown away, with its loop
                    self.reason = self.reason or reason
                    raise
                if interrupt_in(reason) is not None:
                    raise
            else:
                reason = self.doomed or reason
            await self._close()
        finally:
            self.exited(reason)

    def _ended_by(self, error: BaseException) -> ExitReason:
        reason = reason_of(error)
        if interrupt_in(reason) is not None or isinstance(error, GeneratorExit):
            return reason
        if isinstance(reason, Killed):
            return self.doomed or reason
        if self.doomed is not None and not self.stopping:
            return self.doomed
        assert isinstance(reason, Crashed)
        self.report(reason)
        return reason

    def report(self, reason: Crashed, last_message: object = None) -> None:
        """Tell the observers of a crash, once, unless there were too many of late."""
        system = self.system
        if self.reported is reason.exception:
            return
        self.reported = reason.exception
        suppressed = system.reports.admit(asyncio.get_running_loop().time())
        if suppressed is None:
            return
        try:
            state = self.behaviour.redacted_status() if self.behaviour is not None else {}
        except Exception as error:  # noqa: BLE001 - a crashed actor may well fail to describe itself
            state = {"error": type(error).__name__}
        system.emit(crash_report(self, reason, last_message, state, suppressed))

    async def _close(self) -> None:
        """End what depends on it, however it ended itself. No cancellation cuts this short, and it takes a bounded time."""
        self.closing = True
        children = self.children
        if not children:
            return
        killed = self.killed
        for child, policy in list(children.items()):
            if not killed:
                child.shutdown(policy)
            elif child.stopping or (child.starting is not None and not child.started):
                child.kill()
            else:
                bounded = _ORPHAN_SECONDS if policy == "infinity" else policy
                child.shutdown(bounded if isinstance(bounded, str) else min(bounded, _ORPHAN_SECONDS), Killed())
        while children:
            try:
                await next(iter(children)).wait()
            except asyncio.CancelledError:
                if self.killed and not killed:
                    self._abandon_children()

    def _abandon_children(self) -> None:
        for child in list(self.children or ()):
            child.kill()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # an interrupt, which the loop has raised already
        self.system.zombies.pop(self, None)
        self.task = None
        self.exited(self.doomed or Killed())  # only of a task that was cancelled before its first step

    # -- its end -------------------------------------------------------------------------------------------------------

    def exited(self, reason: ExitReason) -> None:  # noqa: C901 - one list, in its order; cheap where nothing is to do
        """Set the exit record and settle everything that depends on it. Only the first call counts."""
        if self.reason is not None:
            return
        self.reason = reason
        if not self.zombie:
            self.task = None
        if self._releases is not None:
            for release in self._releases:
                release(self)
        parent = self.parent
        if parent is not None and parent.children is not None:
            parent.children.pop(self, None)
        self._let_go(reason)
        if self.callers:
            self._fail_callers(reason)
        if self._on_exits is not None:
            self._run_callbacks(reason)
        if self.starting is not None and not self.starting.done():
            self.starting.set_result(Ignored() if self.ignored else StartFailed(reason))
        if self.reports_exit:
            self._post_exit(reason)
        if self.monitors or self.links is not None or self._waiters is not None:
            self._tell_watchers(reason)
        if self.announced and self.system.observers:
            self.system.emit(Exited(self, reason))

    def _let_go(self, reason: ExitReason) -> None:
        """End what it holds itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.timers is not None:
            for timer in self.timers:
                timer.cancel()
            self.timers = None
        if self.watching is not None:
            for monitor in self.watching:
                monitor.leave()
            self.watching = None
        if self.children:
            self._abandon_children()  # of one that could not wait for them: adopted, given up, or interrupted
        if self.mailbox is not None:
            for request in self.mailbox.system:
                request.fail(reason)
            self.mailbox.close(Doomed())

    def _fail_callers(self, reason: ExitReason) -> None:
        callers, self.callers = self.callers, {}
        for caller in callers:
            caller.target_exited(reason)

    def _run_callbacks(self, reason: ExitReason) -> None:
        callbacks, self._on_exits = self._on_exits or (), None
        for callback in callbacks:
            self._tell(callback, reason)

    def _tell_watchers(self, reason: ExitReason) -> None:
        links, self.links = self.links or (), None
        for other in links:
            if other.links is not None:  # pragma: no branch - both may end in one turn
                other.links.pop(self, None)
            other.signal(self, reason)
        monitors, self.monitors = self.monitors, {}
        for monitor in monitors:
            monitor.fire(reason)
        waiters, self._waiters = self._waiters or (), None
        for waiter in waiters:
            _release(waiter)

    def _tell(self, callback: OnExit, reason: ExitReason) -> None:
        try:
            callback(self, reason)
        except Exception:
            # The others must learn of the exit all the same.
            logging.getLogger("supervisors").exception("an on_exit callback of %s failed", self.path)

    def lose(self, message: Any, cause: Cause) -> None:
        """``message`` reaches nobody."""
        lost(self.system, message, cause)

    def release_at_exit(self, release: Callable[[Process], None]) -> None:
        """Call ``release`` before anybody can see the exit: how a registry frees a name."""
        if self._releases is None:
            self._releases = []
        self._releases.append(release)

    def report_exit(self) -> None:
        """Post a :class:`ChildExit` to its parent when it ends; at once if it has."""
        self.reports_exit = True
        if self.reason is not None:
            self._post_exit(self.reason)

    def _post_exit(self, reason: ExitReason) -> None:
        parent = self.parent
        if (
            parent is not None and parent.reason is None and parent.mailbox is not None
        ):  # pragma: no branch - it may be gone
            parent.mailbox.put_unbounded(ChildExit(self, reason))

    def on_exit(self, callback: OnExit) -> None:
        """Call ``callback(process, reason)`` when it ends (at once if it has), before links and monitors are told."""
        if self.reason is not None:
            self._tell(callback, self.reason)
        elif self._on_exits is None:
            self._on_exits = [callback]
        else:
            self._on_exits.append(callback)

    def forget_exit(self, callback: OnExit) -> None:
        """Undo :meth:`on_exit`."""
        if self._on_exits is not None and callback in self._on_exits:
            self._on_exits.remove(callback)

    async def wait(self) -> ExitReason:
        """Return its exit reason once it has ended."""
        await self._wait(None)
        assert self.reason is not None
        return self.reason

    async def wait_for(self, seconds: float) -> bool:
        """Whether it ended within ``seconds``."""
        await self._wait(seconds)
        return self.reason is not None

    async def _wait(self, seconds: float | None) -> None:
        if self.reason is not None:
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        if self._waiters is None:
            self._waiters = {}
        self._waiters[waiter] = None
        timer = None if seconds is None else loop.call_later(seconds, _release, waiter)
        try:
            await waiter
        finally:
            if self._waiters is not None:
                self._waiters.pop(waiter, None)
            if timer is not None:
                timer.cancel()

    # -- signals -------------------------------------------------------------------------------------------------------

    def exit(self, reason: ExitReason) -> None:
        """Send it an exit signal, as OTP's ``exit/2``.

        * ``Killed()`` - it dies, whatever it does; ``terminate`` does not run.
        * ``Normal()`` - ignored, unless the process traps exits.
        * anything else - it dies with that reason and without ``terminate``; an actor that traps exits gets an :class:`Exit` instead.
        """
        if type(reason) is Killed:
            self.kill()
        else:
            self.signal(_current.get() or self, reason)

    def signal(self, sender: Process, reason: ExitReason) -> None:
        """A signal over a link, or one that can be trapped."""
        if self.reason is not None:
            return
        if self.mailbox is not None and self.behaviour is not None and self.behaviour.trap_exit:
            self.mailbox.put_unbounded(Exit(sender, reason))
        elif type(reason) is not Normal:
            self.die(reason)

    def shutdown(self, policy: ShutdownPolicy, reason: ExitReason | None = None) -> None:
        """Begin to stop it by ``policy``, as its supervisor does. :meth:`wait` tells when it has."""
        if self.reason is not None:
            return
        if policy == "brutal_kill":
            self.kill()
        elif self.starting is not None and not self.started:
            self.die(Killed())
        elif not self.killed and not (self.stopping and self._timer is not None):
            self._ask(Shutdown() if reason is None else reason)
            if policy != "infinity":
                self._schedule(policy, self.kill)

    def _ask(self, reason: ExitReason) -> None:
        self.stopping = True
        if self.mailbox is not None:
            self.mailbox.put_system(StopRequest(reason))
        elif self.task is not None:  # pragma: no branch - it may be about to end
            self.doomed = reason
            self.task.cancel()

    def kill(self) -> None:
        """Cancel it until it ends; one that swallows every cancellation is given up as a zombie."""
        if self.reason is None and not self.killed:  # pragma: no branch - once is enough
            self.killed = True
            self.stopping = False
            self.doomed = Killed()
            self._cancel()

    def die(self, reason: ExitReason) -> None:
        """Make it end with ``reason``, without ``terminate``."""
        if self.reason is None and not self.killed:
            self.stopping = False
            self.doomed = reason
            self._cancel()

    def crash(self, error: BaseException) -> None:
        """Make it end as by a bug in its handler that raised ``error``: ``terminate`` runs."""
        if self.reason is not None or self.ending or self.interrupt is not None:
            return
        if self.mailbox is None or not self.started:
            self.die(Crashed(error))
        else:
            self.interrupt = error
            self._cancel()

    def _cancel(self) -> None:
        self._tries = 0
        if self.mailbox is not None:
            self.mailbox.system.insert(0, Doomed())
        self._step()

    def _step(self) -> None:
        if self.reason is not None or self.task is None or (self.doomed is None and self.ending):
            return
        if self._tries == _CANCELS:
            self._give_up()
            return
        self._tries += 1
        self.task.cancel()
        if not self.closing:  # what follows is the library's own, and bounded
            self._schedule(_CANCEL_SECONDS, self._step)

    def _schedule(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)

    def _give_up(self) -> None:
        self.zombie = True
        self.system.zombies[self] = None
        self.exited(self.doomed or Killed())


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():  # pragma: no branch - who waits may be gone
        waiter.set_result(None)
