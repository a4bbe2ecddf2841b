"""The life of an actor: ``init``, the loop that receives, ``terminate``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias

from supervisors.caller import Caller, Envelope
from supervisors.errors import ActorExited, BadReturn
from supervisors.exit import Crashed, ExitReason, Normal
from supervisors.mailbox import Kept, Mailbox
from supervisors.messages import Down, Info, TimedOut
from supervisors.process import Process
from supervisors.returns import NO_REPLY, Continue, Ignore, NoReply, Reply, Stop, Timeout
from supervisors.signals import StopRequest

if TYPE_CHECKING:
    from supervisors.gen_server import GenServer
    from supervisors.handler_time import TimedHandlers
    from supervisors.traced import TracedHandlers

    Layer: TypeAlias = TimedHandlers | TracedHandlers
    Handlers: TypeAlias = GenServer[Any] | Layer

_TURN = 64  # messages handled without a wait before others get a turn
_SPECIAL = frozenset({NoReply, Reply, Stop, Continue, Timeout, Ignore})


class SystemRequest:
    """A system message: run ``function`` on the server, between two messages, and tell its result."""

    __slots__ = ("function", "result")

    def __init__(self, function: Callable[[Server], Any], result: asyncio.Future[Any]) -> None:
        self.function = function
        self.result = result

    def run(self, server: Server) -> None:
        """Run it, unless nobody waits any more."""
        if self.result.done():
            return
        try:
            self.result.set_result(self.function(server))
        except Exception as error:  # noqa: BLE001 - it is the asker's mistake, not the actor's
            self.result.set_exception(error)
            self.result.exception()  # nobody need be waiting

    def fail(self, reason: ExitReason) -> None:
        """The process has ended before it read this."""
        if not self.result.done():  # pragma: no branch - nobody may wait any more
            self.result.set_exception(ActorExited(reason))
            self.result.exception()  # nobody need be waiting


class Server:
    """One incarnation of an actor at work."""

    __slots__ = (
        "_message",
        "_reply_to",
        "_timed_out",
        "_timer",
        "behaviour",
        "handlers",
        "layers",
        "mailbox",
        "measure",
        "process",
        "since",
        "suspension",
    )

    def __init__(self, process: Process, behaviour: GenServer[Any]) -> None:
        self.process = process
        self.behaviour = behaviour
        self.handlers: Handlers = behaviour  # who gets the messages
        self.layers: tuple[Layer, ...] = ()  # what stands before the behaviour, from the inside
        self.measure: TimedHandlers | None = None  # the one of them that `measure_handlers` has put there
        self.suspension: asyncio.TimerHandle | None = None  # the end of it, where that is set
        loop = asyncio.get_running_loop()
        self.mailbox = Mailbox(behaviour.mailbox_limit, behaviour.mailbox_policy, loop, process)
        self.since = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._timed_out = False
        self._message: Any = None
        self._reply_to: tuple[Caller[Any], Any] | None = None
        process.behaviour = behaviour
        process.mailbox = self.mailbox
        behaviour.process = process

    def end_suspension(self, *_: object) -> None:
        """Nothing is due any more."""
        if self.suspension is not None:
            self.suspension.cancel()
            self.suspension = None
            self.process.forget_exit(self.end_suspension)

    def add_layer(self, layer: Layer) -> None:
        """From the next message on, ``layer`` stands before the behaviour."""
        layer.inner = self.handlers
        self.layers = (*self.layers, layer)
        self.handlers = layer

    def remove_layer(self, layer: Layer) -> None:
        """Undo :meth:`add_layer`."""
        self.layers, self.handlers = tuple(one for one in self.layers if one is not layer), self.behaviour
        for one in self.layers:
            one.inner, self.handlers = self.handlers, one

    async def run(self) -> ExitReason:
        """Live, and return why it ended. What ``init`` raises, and what must not be handled, is raised."""
        process = self.process
        try:
            reason = await self._begin()
            if not process.started:
                return reason or Normal()
            if reason is None:
                reason = await self._receive()
        except asyncio.CancelledError:
            if process.interrupt is None or process.doomed is not None:
                await self.behaviour.cancelled()
                raise
            await self._absorb_cancel()
            reason = Crashed(process.interrupt)
            process.report(reason)
        except Exception as error:
            if not process.started:
                raise
            reason = Crashed(error)
            process.report(reason, self._message)
        finally:
            if self._timer is not None:
                self._timer.cancel()
        return await self._terminate(reason)

    async def _begin(self) -> ExitReason | None:
        result = self.behaviour.init()
        if type(result) is CoroutineType:
            result = await result
        match result:
            case Ignore():
                self.process.ignored = True
                return Normal()
            case Stop(reason):
                return reason
            case None | Continue() | Timeout():
                self.process.begin()
                stop = await self._react("init", result)
                return None if stop is None else stop.reason
            case _:
                raise BadReturn("init", result)

    async def _terminate(self, reason: ExitReason) -> ExitReason:
        self.process.ending = True
        try:
            result = self.behaviour.terminate(reason)
            if type(result) is CoroutineType:
                await result
        except asyncio.CancelledError:
            await self.behaviour.cancelled()
            raise
        except Exception as error:  # noqa: BLE001 - it changes the reason and nothing else
            reason = Crashed(error)
            self.process.report(reason)
        if self._reply_to is not None:
            caller, value = self._reply_to
            caller.reply(value)
        return reason

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def _receive(self) -> ExitReason:  # noqa: C901, PLR0912, PLR0915 - the hot path of every actor: one flat loop
        mailbox, handlers = self.mailbox, self.handlers
        system, messages, loop = mailbox.system, mailbox.messages, mailbox.loop
        skip_stale = self.behaviour.skip_stale
        turn, began, timer = 0, 0.0, mailbox.timer
        while True:
            if system:
                if (stop := self._serve(system.pop(0))) is not None:
                    return stop.reason
                handlers = self.handlers
                continue
            if not messages or mailbox.suspended:
                if not self._timed_out or mailbox.suspended:
                    self._message = None
                    turn = 0
                    waiter = mailbox.waiter = loop.create_future()
                    await waiter
                    continue
                message: Any = TimedOut()
                mailbox.arrived = None
            else:
                turn += 1
                if turn > _TURN:
                    turn = 0
                    await asyncio.sleep(0)
                    continue
                message = messages.popleft()
                mailbox.taken += 1
                if mailbox.arrivals is not None:
                    mailbox.arrived = mailbox.arrivals.popleft()
                if mailbox.blocked:
                    mailbox.admit()
            if self._timer is not None:
                self._disarm()
            kind = type(message)
            if (handled := mailbox.handled) is not None:
                timer = mailbox.timer
                began = timer()
            if kind is Envelope:
                caller = message.caller
                if skip_stale and not caller.alive:
                    self._skip(caller)
                    continue
                self._message = message = message.message
                result = handlers.handle_call(message, caller)
                if type(result) is CoroutineType:
                    result = await result
                if handled is not None:
                    handled(timer() - began)
                if type(result) not in _SPECIAL:
                    caller.reply(result)
                    continue
                result = self._answer(result, caller)
                callback = "handle_call"
            else:
                if kind is Kept:
                    mailbox.kept -= 1
                    message = message.message
                    if type(message) is StopRequest:
                        self.process.stopping = True
                        return message.reason
                    if type(message) is Down and message.monitor.dropped:
                        continue
                self._message = message
                if isinstance(message, Info):
                    callback = "handle_info"
                    result = handlers.handle_info(message)
                else:
                    callback = "handle_cast"
                    result = handlers.handle_cast(message)
                if type(result) is CoroutineType:
                    result = await result
                if handled is not None:
                    handled(timer() - began)
            if result is not None:
                stop = await self._react(callback, result)
                if stop is not None:
                    return stop.reason
                handlers = self.handlers

    async def _absorb_cancel(self) -> None:
        """Take back what interrupted it, also where that is still to be delivered, so that ``terminate`` can wait."""
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if self.process.doomed is not None:
                    raise
            task.uncancel()

    def _answer(self, result: Any, caller: Caller[Any]) -> Any:
        """Reply as ``handle_call`` returned, and return what is to come then."""
        match result:
            case NoReply():
                return None
            case Reply(value, then):
                if value is not NO_REPLY:
                    caller.reply(value)
                return then
            case Stop():
                if result.reply is not NO_REPLY:
                    self._reply_to = caller, result.reply
                return result
            case _:
                raise BadReturn("handle_call", result)

    async def _react(self, callback: str, result: Any) -> Stop | None:
        """Do what a callback returned; a :class:`Stop` is for the loop."""
        steps = 0
        while type(result) is Continue:
            steps += 1
            if (
                steps % _TURN == 0
            ):  # a chain of them is work in pieces, and must neither starve others nor be unstoppable
                await asyncio.sleep(0)
                while self.mailbox.system:
                    if (stop := self._serve(self.mailbox.system.pop(0))) is not None:
                        return stop
            callback = "handle_continue"
            result = self.handlers.handle_continue(result.term)
            if type(result) is CoroutineType:
                result = await result
        if result is None:
            return None
        if type(result) is Timeout:
            self._timer = self.mailbox.loop.call_later(result.seconds, self._time_out)
            return None
        if type(result) is Stop:
            return result
        raise BadReturn(callback, result)

    def _serve(self, request: Any) -> Stop | None:
        """Serve a system message; a :class:`Stop` is for the loop."""
        if type(request) is StopRequest:
            self.process.stopping = True
            return Stop(request.reason)
        request.run(self)
        return None

    def _skip(self, caller: Caller[Any]) -> None:
        self.mailbox.drops += 1
        caller.leave()

    def _time_out(self) -> None:
        self._timed_out = True
        self.mailbox.wake()

    def _disarm(self) -> None:
        assert self._timer is not None
        self._timer.cancel()
        self._timer = None
        self._timed_out = False


class TaskServer:
    """A process that runs one coroutine function, and has no mailbox."""

    __slots__ = ("_function", "process")

    def __init__(self, process: Process, behaviour: GenServer[Any], function: Callable[[], Awaitable[Any]]) -> None:
        self.process = process
        self._function = function
        process.behaviour = behaviour
        behaviour.process = process

    async def run(self) -> ExitReason:
        """Run it."""
        self.process.begin()
        await self._function()
        return Normal()
