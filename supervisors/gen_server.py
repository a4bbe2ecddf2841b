"""An actor: one mailbox, one loop, one message at a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Mapping
from typing import Any, Final, Generic, TypeVar

from supervisors import dead_letters
from supervisors.exit import Crashed, ExitReason, Normal, Shutdown
from supervisors.mailbox import Mailbox, Policy
from supervisors.messages import Call, Down, Info
from supervisors.process import Monitor, Process
from supervisors.ref import ActorRef, Caller, Envelope, Stop

CastT = TypeVar("CastT")
_TURN = 64  # messages handled before others get a turn


class _NoReply:
    __slots__ = ()


NO_REPLY: Final = _NoReply()
"""Returned by ``handle_call``: the reply comes later, or from somebody else."""


class StopServer:
    """Returned by a callback: end with ``reason``, after ``reply`` if there is one."""

    __slots__ = ("reason", "reply")

    def __init__(self, reason: ExitReason | None = None, reply: Any = NO_REPLY) -> None:
        self.reason = reason or Normal()
        self.reply = reply


class GenServer(Generic[CastT]):
    """Subclass it and fill in the callbacks; each may be ``def`` or ``async def``. A new object is made for every incarnation."""

    mailbox_limit: int = 10_000
    mailbox_policy: Policy = "reject"

    process: Process

    def init(self) -> Any:
        """Prepare. The starter waits until this returns; an exception is a failed start."""

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        """Answer a call by returning the reply, or :data:`NO_REPLY`."""
        raise TypeError(message)

    def handle_cast(self, message: CastT) -> Any:
        """Handle a cast."""
        raise TypeError(message)

    def handle_info(self, message: Info) -> Any:
        """Handle a timer, a :class:`Down`, a child's report."""

    def terminate(self, reason: ExitReason) -> Any:
        """Clean up. Not run when the process is killed."""

    def status(self) -> Mapping[str, object]:
        """What introspection shows."""
        return {}

    # -- provided ------------------------------------------------------------------------------------------------------

    @property
    def ref(self) -> ActorRef:
        """This incarnation."""
        return ActorRef(self.process)

    @property
    def name(self) -> str | None:
        """Its registered name."""
        return self.process.name

    @property
    def incarnation(self) -> int:
        """Which life this is, from 1."""
        return self.process.incarnation

    def now(self) -> float:
        """The loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    def monitor(self, target: ActorRef | Process) -> Monitor:
        """Be told by a :class:`Down` when ``target`` ends; at once if it has."""
        process = target.process if isinstance(target, ActorRef) else target
        mailbox = self._mailbox
        return Monitor(process, lambda monitor, reason: mailbox.put_unbounded(Down(monitor, process, reason)))

    def demonitor(self, monitor: Monitor) -> None:
        """No :class:`Down` of ``monitor`` is delivered from now on."""
        monitor.drop()

    def send_after(self, seconds: float, message: Info) -> asyncio.TimerHandle:
        """Send ``message`` to itself later."""
        handle = asyncio.get_running_loop().call_later(seconds, self._mailbox.put_unbounded, message)
        self._timers = [t for t in self._timers if not t.cancelled() and t.when() > self.now()] + [handle]
        return handle

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str | None = None) -> Process:
        """Run ``coroutine`` in a process of this actor's scope: it ends with the actor, and its crash is the actor's."""
        process = Process(name, f"{self.process.path}/{name or coroutine.__name__}")

        async def main() -> ExitReason:
            await coroutine
            return Normal()

        self._spawned[process] = None
        process.on_exit(self._spawned_exit)
        process.run(main())
        return process

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _spawned_exit(self, process: Process, reason: ExitReason) -> None:
        self._spawned.pop(process, None)
        if isinstance(reason, Crashed):
            self.process.crash(reason.exception)

    def _attach(self, process: Process) -> None:
        self.process = process
        process.behaviour = self
        self._mailbox = process.mailbox = Mailbox(self.mailbox_limit, self.mailbox_policy)
        self._spawned: dict[Process, None] = {}
        self._timers: list[asyncio.TimerHandle] = []

    async def _run(self, started: asyncio.Future[None]) -> ExitReason:
        try:
            result = self.init()
            if inspect.isawaitable(result):
                await result
            if started.done():  # the starter has given up
                return Shutdown()
            started.set_result(None)
            reason = await self._loop()
        except BaseException as error:
            if not started.done():
                started.set_exception(error if isinstance(error, Exception) else RuntimeError("killed during init"))
                started.exception()
            if isinstance(error, asyncio.CancelledError):
                if self.process.injected is None or self.process.kill_requested:
                    raise
                error = self.process.injected
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
            if not isinstance(error, Exception):
                raise
            await self._end(Crashed(error))
            return Crashed(error)
        finally:
            self._cleanup()
        return await self._end(reason)

    async def _loop(self) -> ExitReason:
        mailbox, handled = self._mailbox, 0
        system, messages = mailbox.system, mailbox.messages
        while True:
            if system:
                message = system.popleft()
            elif messages and not mailbox.suspended:
                message = messages.popleft()
            else:
                await mailbox.wait()
                handled = 0
                continue
            handled += 1
            if handled >= _TURN:
                handled = 0
                await asyncio.sleep(0)
            if type(message) is Envelope:
                result = self.handle_call(message.message, message.caller)
                if inspect.isawaitable(result):
                    result = await result
                if result is not NO_REPLY and type(result) is not StopServer:
                    message.caller.reply(result)
            elif type(message) is Stop:
                return message.reason
            elif isinstance(message, Info):
                result = self.handle_info(message)
                if result is not None and inspect.isawaitable(result):
                    result = await result
            else:
                result = self.handle_cast(message)
                if result is not None and inspect.isawaitable(result):
                    result = await result
            if type(result) is StopServer:
                reason = await self._end(result.reason)
                if result.reply is not NO_REPLY and type(message) is Envelope:
                    message.caller.reply(result.reply)
                self.terminate = lambda _: None  # type: ignore[method-assign]
                return reason

    async def _end(self, reason: ExitReason) -> ExitReason:
        try:
            result = self.terminate(reason)
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # noqa: BLE001 - the process border: changes the reason, nothing else
            reason = Crashed(error)
        for process in list(self._spawned):
            await process.kill()
        return reason

    def _cleanup(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for process in list(self._spawned):
            if process.task is not None:
                process.kill_requested = True
                process.task.cancel()
        left = len(self._mailbox.messages)
        if left:
            dead_letters.count("noproc")


class Task(GenServer[Any]):
    """A behaviour around a bare coroutine function: runs it, then ends normally."""

    def __init__(self, function: Any) -> None:
        self._function = function

    async def _run(self, started: asyncio.Future[None]) -> ExitReason:
        started.set_result(None)
        await self._function()
        return Normal()
