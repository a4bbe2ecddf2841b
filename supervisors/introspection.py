"""A look into a running tree (OTP's ``sys``).

:func:`tree`, :func:`processes` and :func:`dead_letters` read plain fields and never wait. The others ask the actor itself, in the lane of
system messages: they are served between two ordinary messages, also by a suspended actor, and before whatever else is queued.

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
...     print([(event.kind, event.message, event.outcome) for event in await following], await get_state(child.ref))
...     await root.stop()
>>> asyncio.run(main())
{'total': 100}
[('root/counter', 'suspended', 1)]
[('cast', '5', 'handled')] {'total': 105}

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

:func:`activity` tells what all of a tree have done within some seconds, and :func:`stacks` where its tasks are.

Each question to one actor takes ``timeout``, seconds until :class:`~supervisors.CallTimeout`, and raises :class:`~supervisors.NoProcess` or
:class:`~supervisors.ActorExited` as a call does. A process without a mailbox (a :class:`~supervisors.Task`) has nothing to look into.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from attrs import frozen

from supervisors.activity import Activity, activity
from supervisors.errors import CallTimeout, NoProcess
from supervisors.handler_time import HandlerTime, TimedHandlers
from supervisors.receive import Server, SystemRequest
from supervisors.ref import Address
from supervisors.snapshot import TreeNode, dead_letters, processes, tree
from supervisors.stacks import TaskStack, stacks
from supervisors.traced import TraceEvent
from supervisors.tracing import Trace, trace

__all__ = [
    "Activity",
    "HandlerTime",
    "Statistics",
    "TaskStack",
    "Trace",
    "TraceEvent",
    "TreeNode",
    "activity",
    "dead_letters",
    "get_state",
    "get_status",
    "measure_handlers",
    "on_handled",
    "processes",
    "replace_state",
    "resume",
    "stacks",
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
    """Who it is, whether it is ``"running"`` or ``"suspended"`` (and for how long), its mailbox and its own ``status()``."""

    def status(server: Server) -> dict[str, Any]:
        process, box = server.process, server.mailbox
        return {
            "path": process.path,
            "name": process.name,
            "incarnation": process.incarnation,
            "behaviour": type(server.behaviour).__name__,
            "state": "suspended" if box.suspended else "running",
            "resumes_in_seconds": _resumes_in(server),
            "mailbox": {"depth": box.depth, "high_water": box.high_water, "drops": box.drops, "limit": box.limit},
            "status": dict(server.behaviour.status()),
        }

    return await _ask(ref, status, timeout)


async def suspend(ref: Address, *, seconds: float | None = None, timeout: float | None = 5.0) -> None:
    """Let ordinary messages queue until :func:`resume`, or until ``seconds`` have passed; a later one replaces what an earlier one said.

    Its mailbox keeps its bound, its supervisor can still stop it, and system messages are still served. A suspended supervisor handles no
    exits, and catches up. The next incarnation is not suspended.
    """
    await _ask(ref, lambda server: _suspend(server, seconds), timeout)


async def resume(ref: Address, *, timeout: float | None = 5.0) -> None:
    """Undo :func:`suspend`, however often that was called."""
    await _ask(ref, _resume, timeout)


async def statistics(ref: Address, *, timeout: float | None = 5.0) -> Statistics:
    """What it has done since it started, in numbers."""

    def count(server: Server) -> Statistics:
        box, measure = server.mailbox, server.measure
        return Statistics(
            uptime_seconds=box.loop.time() - server.since,
            messages=box.taken,
            depth=box.depth,
            high_water=box.high_water,
            drops=box.drops,
            handlers=None if measure is None else measure.time,
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
        if on == (server.measure is None):
            _measures(server, TimedHandlers(clock) if on else None)

    await _ask(ref, switch, timeout)


def on_handled(
    ref: Address, observe: Callable[[float], object] | None, *, clock: Callable[[], float] = time.perf_counter
) -> None:
    """From the next message on, ``observe`` is told how many seconds each message took until its handler returned, what it waited for
    included; ``None``: nobody is. A message whose handler raised is not told of. ``clock`` tells seconds, by default of real time: the
    clock of a loop may stand still while a handler runs.

    It lasts as long as this incarnation, and is cheap enough to stay on. ``observe`` runs in the actor's task, so it only counts: what it
    raises is the actor's crash. Raises :class:`~supervisors.NoProcess`.
    """
    process = ref.resolve()
    if process is None or process.reason is not None or process.mailbox is None:
        raise NoProcess
    process.mailbox.handled, process.mailbox.timer = observe, clock


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


def _suspend(server: Server, seconds: float | None) -> None:
    _resume(server)
    server.mailbox.suspended = True
    if seconds is not None:
        server.suspension = server.mailbox.loop.call_later(seconds, _resume, server)
        server.process.on_exit(server.end_suspension)


def _resume(server: Server) -> None:
    server.end_suspension()
    server.mailbox.suspended = False
    server.mailbox.wake()


def _measures(server: Server, layer: TimedHandlers | None) -> None:
    if server.measure is not None:
        server.remove_layer(server.measure)
    server.measure = layer
    if layer is not None:
        server.add_layer(layer)


def _resumes_in(server: Server) -> float | None:
    return None if server.suspension is None else server.suspension.when() - server.mailbox.loop.time()
