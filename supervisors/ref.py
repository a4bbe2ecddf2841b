"""How others reach a process: by a reference to one incarnation, or by a name that is looked up at each send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from supervisors import dead_letters
from supervisors.errors import ActorExited, CallTimeout, NoProcess
from supervisors.exit import ExitReason, Normal
from supervisors.messages import Call, Info
from supervisors.process import Adopted, Process, current_process

if TYPE_CHECKING:
    from supervisors.child_spec import ChildSpec

R = TypeVar("R")


class Stop:
    """A system message: stop with ``reason``."""

    __slots__ = ("reason",)

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason


class Caller(Generic[R]):
    """One call in progress, in the hands of the actor that owes the reply: answer it now, later, or forward it."""

    __slots__ = ("_future", "_message", "_target", "deadline", "process")

    def __init__(
        self, future: asyncio.Future[R], message: Call[R], deadline: float | None, process: Process | None
    ) -> None:
        self._future = future
        self._message = message
        self._target: Process | None = None
        self.deadline = deadline
        self.process = process

    @property
    def alive(self) -> bool:
        """Whether somebody still waits for the reply."""
        return not self._future.done()

    def reply(self, value: R) -> None:
        """Answer. A second answer is dropped; one that nobody waits for goes to the message's ``abandon``."""
        message = self._message
        if self._target is not None:
            self._target.callers.pop(self, None)
            self._target = None
        if self._future.done():
            dead_letters.count("late_reply")
            message.abandon(value)
        else:
            self._future.set_result(value)

    def fail(self, error: Exception) -> None:
        """Answer with an exception, raised at the caller."""
        if self._target is not None:
            self._target.callers.pop(self, None)
            self._target = None
        if not self._future.done():
            self._future.set_exception(error)

    def forward(self, target: ActorRef | Via, message: Call[R]) -> bool:
        """Hand the call to ``target``, which sees ``message`` and owes the reply from now on; if it dies, the caller learns it.

        False, and nothing moved, if nobody is there.
        """
        process = target.resolve()
        if process is None or process.reason is not None:
            return False
        if self._target is not None:
            self._target.callers.pop(self, None)
        assert process.mailbox is not None
        process.mailbox.put(Envelope(message, self))
        self._message = message
        self._target = process
        process.callers[self] = None
        return True

    def target_exited(self, reason: ExitReason) -> None:
        """Whoever owed the reply has ended."""
        self._target = None
        if not self._future.done():
            self._future.set_exception(ActorExited(reason))

    def _expire(self) -> None:
        if not self._future.done():
            self._future.set_exception(CallTimeout())

    def _begin(self, target: Process) -> None:
        self._target = target
        target.callers[self] = None

    def _end(self) -> None:
        if self._target is not None:
            self._target.callers.pop(self, None)


class Envelope:
    """A call in a mailbox."""

    __slots__ = ("caller", "message")

    def __init__(self, message: Call[Any], caller: Caller[Any]) -> None:
        self.message = message
        self.caller = caller


async def _call(process: Process | None, message: Call[R], timeout: float | None) -> R:
    if process is None or process.reason is not None:
        raise NoProcess
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()
    deadline = None if timeout is None else loop.time() + timeout
    caller = Caller(future, message, deadline, current_process())
    assert process.mailbox is not None
    process.mailbox.put(Envelope(message, caller))
    caller._begin(process)
    timer = None if deadline is None else loop.call_at(deadline, caller._expire)
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled() and future.exception() is None:
            message.abandon(future.result())
        raise
    finally:
        if timer is not None:
            timer.cancel()
        caller._end()


class Reachable(Protocol):
    """What references and names have in common."""

    def resolve(self) -> Process | None:
        """The process meant, or ``None``."""

    async def call(self, message: Call[R], *, timeout: float | None = 5.0) -> R:
        """Send ``message`` and wait for the reply."""
        return await _call(self.resolve(), message, timeout)

    def cast(self, message: Any) -> None:
        """Send ``message``; nobody there is no error."""
        process = self.resolve()
        if process is None or process.reason is not None or process.mailbox is None:
            dead_letters.count("noproc")
        elif process.mailbox.put(message) is not None:
            dead_letters.count("mailbox_full")

    def forward(self, caller: Caller[R], message: Call[R]) -> bool:
        """Hand ``caller`` to whoever lives here, which owes the reply from now on. False, and nothing moved, if nobody is there."""
        return caller.forward(self, message)  # type: ignore[arg-type]

    def send(self, info: Info) -> None:
        """Send an :class:`Info`."""
        self.cast(info)

    def adopt(self, *, name: str | None = None) -> Adopted:
        """Make the current task a process under this DynamicSupervisor, for the time of an ``async with``."""
        process = self.resolve()
        if process is None or process.reason is not None:
            raise NoProcess
        return Adopted(process.behaviour.register, name)


class ActorRef(Reachable):
    """One incarnation of a process. Equal to another reference to the same one."""

    __slots__ = ("process",)

    def __init__(self, process: Process) -> None:
        self.process = process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and other.process is self.process

    def __hash__(self) -> int:
        return hash(self.process.pid)

    def __repr__(self) -> str:
        return f"<ActorRef {self.process!r}>"

    @property
    def alive(self) -> bool:
        """Whether that incarnation still runs."""
        return self.process.reason is None

    @property
    def path(self) -> str:
        """Its place in the tree."""
        return self.process.path

    @property
    def incarnation(self) -> int:
        """Which life of its child spec it is, from 1."""
        return self.process.incarnation

    def resolve(self) -> Process | None:
        """The process itself."""
        return self.process

    async def stop(self, reason: ExitReason | None = None, timeout: float | None = None) -> None:
        """Stop it after what is queued, and wait. Raises :class:`ActorExited` if it ended for another reason."""
        process = self.process
        if process.reason is None and process.mailbox is not None:
            process.mailbox.put_unbounded(Stop(reason or Normal()))
        if not await process.wait_for(timeout):
            raise CallTimeout

    async def wait(self) -> ExitReason:
        """Its exit reason, once it has ended."""
        return await self.process.wait()

    # -- of a supervisor -----------------------------------------------------------------------------------------------

    async def which_children(self) -> list[Any]:
        """Its children, in start order."""
        return list(self._behaviour().children())

    async def start_child(self, spec: ChildSpec) -> ActorRef:
        """Start one more child. Raises :class:`StartFailed`, :class:`AlreadyStarted`."""
        from supervisors.supervisor import StartChild  # noqa: PLC0415 - a reference is below a supervisor

        return await self.call(StartChild(spec), timeout=None)

    async def terminate_child(self, id_: str) -> None:
        """Stop a child and keep its spec. Raises :class:`NotFound`."""
        from supervisors.supervisor import TerminateChild  # noqa: PLC0415

        await self.call(TerminateChild(id_), timeout=None)

    async def restart_child(self, id_: str) -> ActorRef:
        """Start a stopped child again. Raises :class:`NotFound`, :class:`StartFailed`, :class:`AlreadyStarted`."""
        from supervisors.supervisor import RestartChild  # noqa: PLC0415

        return await self.call(RestartChild(id_), timeout=None)

    def _behaviour(self) -> Any:
        return self.process.behaviour


class Via(Reachable):
    """A name in a registry, resolved at each send."""

    __slots__ = ("_entries", "name")

    def __init__(self, entries: dict[str, ActorRef], name: str) -> None:
        self._entries = entries
        self.name = name

    def resolve(self) -> Process | None:
        """Whoever has the name now."""
        ref = self._entries.get(self.name)
        return None if ref is None else ref.process

    async def start_child(self, spec: ChildSpec) -> ActorRef:
        """As for a reference."""
        process = self.resolve()
        if process is None:
            raise NoProcess
        return await ActorRef(process).start_child(spec)
