"""What one may ask of a supervisor, and the methods of an address that ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen

from supervisors.child_spec import ChildSpec
from supervisors.messages import Call
from supervisors.results import (
    AlreadyPresent,
    AlreadyStarted,
    ChildCounts,
    ChildInfo,
    Done,
    Ignored,
    MaxChildren,
    NotFound,
    Restarting,
    Running,
    StartFailed,
)

if TYPE_CHECKING:
    from supervisors.ref import ActorRef

R = TypeVar("R")


@frozen
class StartChild(Call["ActorRef | Ignored | AlreadyStarted | AlreadyPresent | StartFailed | MaxChildren"]):
    """Start one more child."""

    spec: ChildSpec


@frozen
class TerminateChild(Call[Done | NotFound]):
    """Stop a child, by its id or its reference."""

    child: str | ActorRef


@frozen
class RestartChild(Call["ActorRef | Ignored | Running | Restarting | NotFound | StartFailed"]):
    """Start a stopped child; with ``stop``, one that runs is stopped before."""

    id: str
    stop: bool = False


@frozen
class DeleteChild(Call[Done | Running | Restarting | NotFound]):
    """Forget a stopped child."""

    id: str


@frozen
class WhichChildren(Call[list[ChildInfo]]):
    """List the children."""


@frozen
class CountChildren(Call[ChildCounts]):
    """Count the children."""


@frozen
class GetChildSpec(Call[ChildSpec | NotFound]):
    """Tell the spec of a child."""

    id: str


class SupervisorRequests:
    """The requests of a supervisor's clients. Each is a call, served in its turn between exits; none has a deadline by default."""

    __slots__ = ()

    async def call(self, message: Call[R], *, timeout: float | None = 5.0) -> R:
        """See :meth:`supervisors.ref.Address.call`."""
        raise NotImplementedError

    async def start_child(
        self, spec: ChildSpec, *, timeout: float | None = None
    ) -> ActorRef | Ignored | AlreadyStarted | AlreadyPresent | StartFailed | MaxChildren:
        """Start one more child, the last in order, and return once its ``init`` has.

        A start that fails keeps no spec and costs nothing of the restart budget. An id that is there already is refused.
        """
        return await self.call(StartChild(spec), timeout=timeout)

    async def terminate_child(self, child: str | ActorRef, *, timeout: float | None = None) -> Done | NotFound:
        """Stop a child by its shutdown policy, and return once it has ended; its spec stays, except that of a temporary child.

        Of a dynamic supervisor the child goes for good; while it is being restarted its last reference still means it. A child that
        terminates itself so waits out its own shutdown time.
        """
        return await self.call(TerminateChild(child), timeout=timeout)

    async def restart_child(
        self, id_: str, *, stop: bool = False, timeout: float | None = None
    ) -> ActorRef | Ignored | Running | Restarting | NotFound | StartFailed:
        """Start a child that is stopped. If that fails it stays stopped.

        With ``stop`` one that runs is restarted too, in one turn of the supervisor and whatever becomes of the caller: it is stopped by its
        shutdown policy, and who is restarted along by the strategy goes along. That is nobody's failure and costs nothing of the restart
        budget; only where the start fails it is tried again as after a crash, and that does.
        """
        return await self.call(RestartChild(id_, stop), timeout=timeout)

    async def delete_child(self, id_: str, *, timeout: float | None = None) -> Done | Running | Restarting | NotFound:
        """Forget the spec of a child that is stopped."""
        return await self.call(DeleteChild(id_), timeout=timeout)

    async def which_children(self, *, timeout: float | None = None) -> list[ChildInfo]:
        """The children, in start order."""
        return await self.call(WhichChildren(), timeout=timeout)

    async def count_children(self, *, timeout: float | None = None) -> ChildCounts:
        """How many there are."""
        return await self.call(CountChildren(), timeout=timeout)

    async def get_childspec(self, id_: str, *, timeout: float | None = None) -> ChildSpec | NotFound:
        """The spec of a child."""
        return await self.call(GetChildSpec(id_), timeout=timeout)


SUPERVISOR_REQUESTS: tuple[type[Call[Any]], ...] = (
    StartChild,
    TerminateChild,
    RestartChild,
    DeleteChild,
    WhichChildren,
    CountChildren,
    GetChildSpec,
)
