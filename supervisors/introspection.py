"""A look into a running tree (OTP's ``sys``).

:func:`tree` and :func:`dead_letters` read plain fields and never wait. The others ask the actor itself, in the lane of system messages:
they are served between two ordinary messages, also by a suspended actor, and before whatever else is queued.

>>> from supervisors import ChildSpec, GenServer, Supervisor, start
>>> class Counter(GenServer[int]):
...     def init(self) -> None:
...         self.total = 0
...
...     def handle_cast(self, message: int) -> None:
...         self.total += message
>>> async def main() -> None:
...     root = await start(lambda: Supervisor([ChildSpec(id="counter", start=Counter)]))
...     [child] = await root.which_children()
...     await suspend(child.ref)
...     child.ref.cast(5)
...     print(await replace_state(child.ref, lambda state: {**state, "total": 100}))
...     print([(node.path, node.state, node.mailbox["depth"]) for node in tree(root).children])
...     following = trace(child.ref, max_events=1)
...     await resume(child.ref)
...     print([(event.kind, event.message) for event in await following], await get_state(child.ref))
...     await root.stop()
>>> asyncio.run(main())
{'total': 100}
[('root/counter', 'running', 1)]
[('cast', '5')] {'total': 105}

:func:`measure_handlers` tells who holds the loop up:

>>> async def main() -> None:
...     counter = await start(Counter)
...     await measure_handlers(counter)
...     for number in range(3):
...         counter.cast(number)
...     await asyncio.sleep(0)
...     time = (await statistics(counter)).handlers
...     print(time.count, time.longest, time.total_seconds >= time.max_seconds > 0)
...     await counter.stop()
>>> asyncio.run(main())
3 int True

Each takes ``timeout``, seconds until :class:`~supervisors.CallTimeout`, and raises :class:`~supervisors.NoProcess` or
:class:`~supervisors.ActorExited` as a call does. A process without a mailbox (a :class:`~supervisors.Task`) has nothing to look into.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from typing import Any, TypeVar

from attrs import frozen

from supervisors.errors import CallTimeout, NoProcess
from supervisors.events import bounded_repr
from supervisors.handler_time import HandlerTime, TimedHandlers
from supervisors.receive import Server, SystemRequest
from supervisors.ref import Address
from supervisors.snapshot import TreeNode, dead_letters, tree

__all__ = [
    "HandlerTime",
    "Statistics",
    "Trace",
    "TraceEvent",
    "TreeNode",
    "dead_letters",
    "get_state",
    "get_status",
    "measure_handlers",
    "replace_state",
    "resume",
    "statistics",
    "suspend",
    "trace",
    "tree",
]

T = TypeVar("T")


@frozen(kw_only=True)
class Statistics:
    """What an actor has done since it started.

    * ``messages`` - taken from its mailbox; ``high_water`` - the most that ever waited.
    * ``handlers`` - how long they held the loop, where :func:`measure_handlers` is on.
    """

    uptime_seconds: float
    messages: int
    depth: int
    high_water: int
    drops: int
    handlers: HandlerTime | None


@frozen(kw_only=True)
class TraceEvent:
    """One message as it is handled: when (loop time), as what (``call``, ``cast``, ``info``), and its ``repr``, cut to a bound."""

    at: float
    kind: str
    message: str


async def get_state(ref: Address, *, timeout: float | None = 5.0) -> dict[str, Any]:
    """The attributes of the actor's behaviour, as a copy that is not deep."""
    return await _ask(ref, _state, timeout)


async def replace_state(
    ref: Address, function: Callable[[dict[str, Any]], Mapping[str, Any]], *, timeout: float | None = 5.0
) -> dict[str, Any]:
    """Give the behaviour the attributes that ``function`` makes of the present ones, and return them.

    It runs inside the actor. If it raises, the exception is raised here and the actor keeps its state.
    """

    def replace(server: Server) -> dict[str, Any]:
        state = dict(function(_state(server)))
        attributes = vars(server.behaviour)
        for name in attributes.keys() - state.keys() - {"process"}:
            del attributes[name]
        attributes.update(state)
        return _state(server)

    return await _ask(ref, replace, timeout)


async def get_status(ref: Address, *, timeout: float | None = 5.0) -> dict[str, Any]:
    """Who it is, whether it is ``"running"`` or ``"suspended"``, its mailbox and its own ``status()``."""

    def status(server: Server) -> dict[str, Any]:
        process, box = server.process, server.mailbox
        return {
            "path": process.path,
            "name": process.name,
            "incarnation": process.incarnation,
            "behaviour": type(server.behaviour).__name__,
            "state": "suspended" if box.suspended else "running",
            "mailbox": {"depth": box.depth, "high_water": box.high_water, "drops": box.drops, "limit": box.limit},
            "status": dict(server.behaviour.status()),
        }

    return await _ask(ref, status, timeout)


async def suspend(ref: Address, *, timeout: float | None = 5.0) -> None:
    """Let ordinary messages queue until :func:`resume`.

    Its supervisor can still stop it, and system messages are still served. A suspended supervisor handles no exits, and catches up.
    """
    await _ask(ref, lambda server: _set_suspended(server, to=True), timeout)


async def resume(ref: Address, *, timeout: float | None = 5.0) -> None:
    """Undo :func:`suspend`, however often that was called."""
    await _ask(ref, lambda server: _set_suspended(server, to=False), timeout)


async def statistics(ref: Address, *, timeout: float | None = 5.0) -> Statistics:
    """What it has done since it started, in numbers."""

    def count(server: Server) -> Statistics:
        box, handlers = server.mailbox, server.handlers
        return Statistics(
            uptime_seconds=box.loop.time() - server.since,
            messages=box.taken,
            depth=box.depth,
            high_water=box.high_water,
            drops=box.drops,
            handlers=handlers.time if isinstance(handlers, TimedHandlers) else None,
        )

    return await _ask(ref, count, timeout)


async def measure_handlers(
    ref: Address, *, on: bool = True, clock: Callable[[], float] = time.perf_counter, timeout: float | None = 5.0
) -> None:
    """From the next message on, measure how long its handlers hold the loop; ``statistics`` tells. With ``on=False``, no longer.

    Where it is off, as it is at first and after a restart, it costs nothing. ``clock`` tells seconds, by default of real time. Where it is
    on already, it goes on.
    """

    def switch(server: Server) -> None:
        if not on:
            server.handlers = server.behaviour
        elif not isinstance(server.handlers, TimedHandlers):
            server.handlers = TimedHandlers(server.behaviour, clock)

    await _ask(ref, switch, timeout)


def trace(ref: Address, *, max_events: int = 100, seconds: float = 5.0) -> Trace:
    """Follow the messages that an actor handles, from now on, until there were ``max_events`` or ``seconds`` have passed.

    Iterate over it with ``async for`` to see them as they come, or ``await`` it for a list of them all.
    """
    return Trace(ref, max_events, seconds)


class Trace:
    """What :func:`trace` returns. It ends by itself, so a forgotten one costs nothing for long."""

    def __init__(self, ref: Address, max_events: int, seconds: float) -> None:
        self._left = max_events
        self._events: deque[TraceEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self.close)
        self._process = ref.resolve()
        self._request(lambda server: _add_tracer(server, self._note))
        if self._process is None:
            self.close()
        else:
            self._process.on_exit(self._ended)

    def close(self) -> None:
        """Follow no longer."""
        if self._left >= 0:
            self._left = -1
            self._timer.cancel()
            if self._process is not None:
                self._process.forget_exit(self._ended)
            self._request(lambda server: _remove_tracer(server, self._note))
            self._wake()

    def __aiter__(self) -> AsyncIterator[TraceEvent]:
        return self

    async def __anext__(self) -> TraceEvent:
        while not self._events:
            if self._left < 0:
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._events.popleft()

    def __await__(self) -> Generator[Any, None, list[TraceEvent]]:
        return self._collect().__await__()

    async def _collect(self) -> list[TraceEvent]:
        return [event async for event in self]

    def _ended(self, *_: object) -> None:
        self.close()

    def _note(self, kind: str, message: Any) -> None:
        if self._left > 0:  # pragma: no branch - it may be closed, and its end still on the way to the actor
            self._left -= 1
            self._events.append(TraceEvent(at=self._loop.time(), kind=kind, message=bounded_repr(message)))
            self._wake()
        if self._left == 0:
            self.close()

    def _request(self, function: Callable[[Server], None]) -> None:
        process = self._process
        if process is not None and process.reason is None and process.mailbox is not None:
            process.mailbox.put_system(SystemRequest(function, self._loop.create_future()))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def _ask(ref: Address, function: Callable[[Server], T], timeout: float | None) -> T:
    process = ref.resolve()
    if process is None or process.reason is not None or process.mailbox is None:
        raise NoProcess
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    process.mailbox.put_system(SystemRequest(function, result))
    timer = None if timeout is None else loop.call_later(timeout, _expire, result)
    try:
        return await result
    finally:
        if timer is not None:
            timer.cancel()


def _expire(result: asyncio.Future[Any]) -> None:
    if not result.done():  # pragma: no branch - it may have come in this turn
        result.set_exception(CallTimeout())


def _state(server: Server) -> dict[str, Any]:
    return {name: value for name, value in vars(server.behaviour).items() if name != "process"}


def _set_suspended(server: Server, *, to: bool) -> None:
    server.mailbox.suspended = to


def _add_tracer(server: Server, tracer: Callable[[str, Any], None]) -> None:
    server.tracers = (*server.tracers, tracer)


def _remove_tracer(server: Server, tracer: Callable[[str, Any], None]) -> None:
    server.tracers = tuple(one for one in server.tracers if one != tracer)
