"""What a supervisor answers to a request. A refusal is expected, so it is a value and not an exception: ``match`` on it.

>>> import asyncio
>>> from supervisors import ActorRef, AlreadyStarted, ChildSpec, GenServer, StartFailed, Supervisor, start
>>> async def main() -> None:
...     root = await start(lambda: Supervisor([]))
...     for _ in range(2):
...         match await root.start_child(ChildSpec(id="one", start=GenServer)):
...             case ActorRef() as child:
...                 print("started", child.path)
...             case AlreadyStarted(child):
...                 print("there already:", child.path)
...             case StartFailed(reason):
...                 print("failed:", reason)
...     await root.stop()
>>> asyncio.run(main())
started root/one
there already: root/one
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import frozen

from supervisors.exit import ExitReason

if TYPE_CHECKING:
    from supervisors.ref import ActorRef

ChildState = Literal["starting", "running", "restarting", "stopping", "stopped"]


@frozen
class Done:
    """It is done: OTP's ``ok``."""


@frozen
class Ignored:
    """The child's ``init`` returned ``Ignore()``: no process, and no error."""


@frozen
class AlreadyStarted:
    """A child of that id runs, or the name is taken: ``child`` is the one that is there."""

    child: ActorRef


@frozen
class AlreadyPresent:
    """A child spec of that id is there, without a process: restart it or delete it."""


@frozen
class StartFailed:
    """The child's ``init`` failed."""

    reason: ExitReason


@frozen
class MaxChildren:
    """The dynamic supervisor has as many children as it may."""


@frozen
class NotFound:
    """No such child."""


@frozen
class Running:
    """The child runs, so it can be neither restarted nor deleted."""


@frozen
class Restarting:
    """The child is being restarted."""


@frozen
class FailedToStartChild:
    """The detail of the ``Shutdown`` with which a supervisor fails to start: which child, and why."""

    id: str
    reason: ExitReason

    def __str__(self) -> str:
        return f"failed to start child {self.id!r}: {self.reason}"


@frozen(kw_only=True)
class ChildInfo:
    """One child, as ``which_children`` lists it. ``restarts`` are the completed ones."""

    id: str
    ref: ActorRef | None
    state: ChildState
    type: Literal["worker", "supervisor"]
    restarts: int
    last_exit: ExitReason | None


@frozen(kw_only=True)
class ChildCounts:
    """``specs`` of all children, dead or alive; ``active`` processes; ``supervisors`` and ``workers`` by type, dead or alive."""

    specs: int
    active: int
    supervisors: int
    workers: int
