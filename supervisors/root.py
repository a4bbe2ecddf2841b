"""The root of a tree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from supervisors.child import prepare
from supervisors.child_spec import ChildSpec
from supervisors.errors import StartError
from supervisors.events import LogObserver
from supervisors.exit import Crashed, Killed, Normal
from supervisors.gen_server import GenServer
from supervisors.process import Process
from supervisors.ref import ActorRef
from supervisors.registry import Registry
from supervisors.results import StartFailed
from supervisors.system import Observer, System


async def start(
    behaviour: Callable[[], GenServer[Any]] | ChildSpec,
    *,
    name: str = "root",
    registry: Registry | None = None,
    fail_circular_calls: bool = False,
    observers: Sequence[Observer] = (),
) -> ActorRef:
    """Start the root of a tree, and return once it is up; stop it with ``await root.stop()``.

    * ``behaviour`` - what makes the root: ``partial(Supervisor, children)``, or a :class:`ChildSpec`.
    * ``name`` - its id and registered name, where ``behaviour`` is no spec.
    * ``registry`` - where child specs of the whole tree register their names; by default a new one.
    * ``fail_circular_calls`` - a call that would wait for its own caller fails at once; by default, as in OTP, its deadline ends it.
    * ``observers`` - are told of every start, exit, restart and crash; by default a log is written.

    Raises :class:`StartError` if the root or any child fails to start; then nothing of the tree is left. If the caller is cancelled
    meanwhile, what has started is stopped in order before the cancellation goes on.
    """
    spec = behaviour if isinstance(behaviour, ChildSpec) else ChildSpec(id=name, start=behaviour, name=name)
    system = System(
        registry=Registry() if registry is None else registry,
        fail_circular_calls=fail_circular_calls,
        observers=tuple(observers) or (LogObserver(),),
    )
    process = Process(system, spec.id, parent=None, name=spec.name)
    try:
        server = prepare(process, spec)
    except Exception as error:
        process.exited(Crashed(error))
        raise StartError(spec.id, Crashed(error)) from error
    try:
        outcome = await process.launch(server.run, copy_context(), spec.start_timeout)
    except asyncio.CancelledError:
        process.die(Killed())
        await _ended(process)
        raise
    if outcome is not None:
        raise StartError(spec.id, outcome.reason if isinstance(outcome, StartFailed) else Normal())
    return ActorRef(process)


async def _ended(process: Process) -> None:
    """Wait for the end of ``process``, however often the one that waits is cancelled."""
    while process.reason is None:
        try:
            await process.wait()
        except asyncio.CancelledError:
            continue
