"""Actors: one mailbox, one loop, one message at a time."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from supervisors.caller import Caller
from supervisors.errors import NoProcess
from supervisors.exit import Crashed, ExitReason, NoProc, Normal
from supervisors.mailbox import Policy
from supervisors.messages import Call, Info
from supervisors.monitor import Monitor
from supervisors.process import Process
from supervisors.receive import Server, TaskServer
from supervisors.ref import ActorRef, Address

if TYPE_CHECKING:
    from supervisors.registry import Registry

CastT = TypeVar("CastT")
_SPAWNED_SECONDS = 5.0  # that a spawned task has to clean up in when its actor ends


class Timer:
    """What ``send_after`` returns."""

    __slots__ = ("_handle", "_info", "_process")

    def __init__(self, process: Process, seconds: float, info: Info) -> None:
        if process.reason is not None:
            raise NoProcess
        self._process = process
        self._info = info
        self._handle = asyncio.get_running_loop().call_later(seconds, self._fire)
        if process.timers is None:
            process.timers = set()
        process.timers.add(self._handle)

    def cancel(self) -> bool:
        """Send nothing. False if the message is in the mailbox already, or was handled."""
        timers = self._process.timers
        if timers is None or self._handle not in timers:
            return False
        timers.discard(self._handle)
        self._handle.cancel()
        return True

    def _fire(self) -> None:
        process = self._process
        if (
            process.timers is not None and process.mailbox is not None
        ):  # pragma: no branch - it may have ended in this turn
            process.timers.discard(self._handle)
            process.mailbox.put_unbounded(self._info)


class GenServer(Generic[CastT]):
    """An actor. Subclass it and fill in the callbacks; each may be ``def`` or ``async def``.

    >>> from supervisors import Call, Cast, GenServer, start
    >>> class Push(Cast):
    ...     pass
    >>> class Depth(Call[int]):
    ...     pass
    >>> class Stack(GenServer[Push]):
    ...     def init(self) -> None:
    ...         self.items = ["hello"]
    ...
    ...     def handle_call(self, message, caller):
    ...         return len(self.items)
    ...
    ...     def handle_cast(self, message: Push) -> None:
    ...         self.items.append("more")
    >>> async def main() -> int:
    ...     stack = await start(Stack)
    ...     stack.cast(Push())
    ...     depth = await stack.call(Depth())
    ...     await stack.stop()
    ...     return depth
    >>> asyncio.run(main())
    2

    **What it does with a message.** Calls, casts and infos are handled one at a time in the order of their arrival. While an ``async``
    callback waits the actor is busy: nothing else is handled, and its supervisor's request to stop waits too. So what takes long goes into
    :meth:`spawn`, and reports by a message. After 64 messages in a row without a wait, the loop gets a turn.

    **What a callback returns.** ``None`` is always fine, except that what ``handle_call`` returns is the reply. Beside that:

    * ``NO_REPLY`` from ``handle_call`` - ``caller.reply(value)`` comes later, or the call was forwarded.
    * ``Reply(value, then=...)`` from ``handle_call`` - answer, and then one of the next two.
    * ``Continue(term)`` - ``handle_continue(term)`` runs next, before anything that is queued.
    * ``Timeout(seconds)`` - a :class:`TimedOut` comes as an info unless a message comes before.
    * ``Stop(reason, reply=...)`` - end: ``terminate`` runs, and then the caller is answered.
    * ``Ignore()`` from ``init`` - do not start, and that is no error.

    Anything else crashes it with :class:`BadReturn`.

    **Options**, as attributes of the class:

    * ``mailbox_limit`` - how many messages may wait, 10,000 by default. Requests to stop, exits, DOWNs and timers know no bound.
    * ``mailbox_policy`` - what happens beyond: ``"reject"`` (the default) raises :class:`MailboxFull` at the sender; ``"drop_new"`` and
      ``"drop_old"`` drop, and count a dead letter; ``"block"`` lets a call, and a sender that uses ``cast_wait``, wait for room.
    * ``trap_exit`` - exit signals come as :class:`Exit` messages rather than ending it.
    * ``skip_stale`` - a call whose caller has given up is not handled, only counted as a drop.

    **How it ends.** ``terminate(reason)`` runs on a ``Stop``, on ``stop()``, when its supervisor stops it, and after an exception in a
    callback, within the ``shutdown`` time of its child spec. It does not run when it is killed, when its ``init`` failed, or when an exit
    signal ends it that it does not trap. Callers that still wait get :class:`ActorExited` with its reason. What is in the mailbox is
    lost, and a restart begins with a new object: state that must outlive a crash belongs to another process.

    OTP's ``code_change`` is left out, for Python cannot replace the code under a running coroutine; ``hibernate`` is, for there is no heap
    per process to shrink.
    """

    mailbox_limit: int = 10_000
    mailbox_policy: Policy = "reject"
    trap_exit: bool = False
    skip_stale: bool = False

    process: Process

    # -- callbacks -----------------------------------------------------------------------------------------------------

    def init(self) -> Any:
        """Prepare. The starter waits until this returns; an exception is a failed start, and ``terminate`` does not run."""

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        """Answer a call by returning the reply, or :data:`~supervisors.NO_REPLY` and answer by ``caller`` later."""
        raise TypeError(f"{type(self).__name__} handles no calls: {type(message).__name__}")

    def handle_cast(self, message: CastT) -> Any:
        """Handle a cast."""
        raise TypeError(f"{type(self).__name__} handles no casts: {type(message).__name__}")

    def handle_info(self, message: Info) -> Any:
        """Handle a timer, a :class:`Down`, an :class:`~supervisors.Exit`, a task's report. What is not meant for it, it ignores."""
        logging.getLogger("supervisors").debug("%s ignores %r", self.process.path, message)

    def handle_continue(self, term: Any) -> Any:
        """Go on after a callback returned ``Continue(term)``, before anything that is queued."""
        raise TypeError(f"{type(self).__name__} handles no continue: {term!r}")

    def terminate(self, reason: ExitReason) -> Any:
        """Clean up. It runs on a ``Stop``, on ``stop()``, when the supervisor stops it, and after an exception in a handler.

        It does not run when the process is killed, when its ``init`` failed, or when an exit signal ends it that it does not trap.
        """

    def status(self) -> Mapping[str, object]:
        """What the tree shows of it. Called at any moment, so it must be quick and must not fail."""
        return {}

    def redacted_status(self) -> Mapping[str, object]:
        """What a crash report may show of it: by default its ``status()``."""
        return self.status()

    # -- provided ------------------------------------------------------------------------------------------------------

    @property
    def ref(self) -> ActorRef:
        """A reference to this incarnation."""
        return ActorRef(self.process)

    @property
    def name(self) -> str | None:
        """Its registered name."""
        return self.process.name

    @property
    def incarnation(self) -> int:
        """Which life of its child spec this is, from 1."""
        return self.process.incarnation

    @property
    def registry(self) -> Registry:
        """The registry of its tree."""
        return self.process.system.registry

    def now(self) -> float:
        """The loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    def monitor(self, target: Address | Process) -> Monitor:
        """Be told by one :class:`Down` when ``target`` ends; at once, with ``NoProc()``, if it has or is unknown."""
        return Monitor(self._process_of(target), self.process)

    def demonitor(self, monitor: Monitor) -> None:
        """No :class:`Down` of ``monitor`` is delivered from now on, not even one that is queued already."""
        monitor.drop()

    def link(self, target: Address | Process) -> None:
        """Share the end of ``target``, and it shares this one's.

        The other's end by any reason but ``Normal()`` ends this process with that reason and without ``terminate``, unless it traps
        exits: then each end is an :class:`~supervisors.Exit`. A link to a process that has ended does so at once, with ``NoProc()``.
        """
        me, other = self.process, self._process_of(target)
        if other is me:
            return
        if other.reason is not None:
            me.signal(other, NoProc())
            return
        for one, two in ((me, other), (other, me)):
            if one.links is None:
                one.links = {}
            one.links[two] = None

    def unlink(self, target: Address | Process) -> None:
        """Undo :meth:`link`, for both."""
        me, other = self.process, self._process_of(target)
        for one, two in ((me, other), (other, me)):
            if one.links is not None:
                one.links.pop(two, None)

    def send_after(self, seconds: float, info: Info) -> Timer:
        """Send ``info`` to itself later. It knows no mailbox bound, and ends with the actor."""
        return Timer(self.process, seconds, info)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str | None = None) -> Process:
        """Run ``coroutine`` in a process of this actor's scope.

        It is cancelled and awaited when the actor ends; its crash is the actor's crash; the tree shows it. This is how an actor does
        what takes time and stays able to listen: the task reports by a message.
        """
        me = self.process
        if me.reason is not None:
            coroutine.close()
            raise NoProcess
        process = Process(me.system, name or getattr(coroutine, "__name__", "task"), parent=me, name=name)

        async def main() -> ExitReason:
            await coroutine
            return Normal()

        if me.children is None:
            me.children = {}
        me.children[process] = _SPAWNED_SECONDS
        process.on_exit(self._spawned_ended(coroutine))
        process.announce()
        process.run(main)
        return process

    # -- for the library -----------------------------------------------------------------------------------------------

    def server(self, process: Process) -> Server | TaskServer:
        """What runs this behaviour as ``process``."""
        return Server(process, self)

    async def cancelled(self) -> None:
        """Its task was cancelled. What supervisors have to put in order before they end."""

    def _spawned_ended(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        me = self.process

        def ended(_: Process, reason: ExitReason) -> None:
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()  # cancelled before its first step
            if isinstance(reason, Crashed):
                me.crash(reason.exception)

        return ended

    def _process_of(self, target: Address | Process) -> Process:
        if isinstance(target, Process):
            return target
        process = target.resolve()
        if process is None:  # an unknown name: somebody who has ended already
            process = Process(self.process.system, getattr(target, "name", None), parent=None)
            process.exited(NoProc())
        return process


class Task(GenServer[Any]):
    """A behaviour around a coroutine function: runs it once, and ends ``Normal()``.

        ChildSpec(id="sync", start=lambda: Task(synchronise), restart="transient")

    It has no mailbox. An exception is its crash; to stop it is to cancel it, so it has its ``shutdown`` time to clean up in.
    """

    def __init__(self, function: Callable[[], Awaitable[Any]]) -> None:
        self._function = function

    def server(self, process: Process) -> TaskServer:
        """What runs it."""
        return TaskServer(process, self, self._function)
