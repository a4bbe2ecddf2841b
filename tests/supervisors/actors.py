"""Small servers, a trace of their lives, and the few verbs with which the tests speak."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from attrs import frozen

from supervisors import (
    ActorRef,
    Call,
    Caller,
    ChildInfo,
    ChildSpec,
    Continue,
    Crashed,
    DynamicSupervisor,
    ExitReason,
    GenServer,
    Ignore,
    Info,
    Killed,
    Registry,
    Stop,
    Supervisor,
    start,
)
from supervisors.child_spec import ShutdownPolicy
from supervisors.introspection import TreeNode, dead_letters, tree
from supervisors.restart import Restart
from supervisors.testing import leak_check, settle

Init = BaseException | float | Ignore | Continue | None
"""What one incarnation's ``init`` does: raise, take that many seconds, return that."""


@frozen
class Ping(Call[str]):
    """Answered at once, with the text of it."""

    text: str = "pong"


@frozen
class Work(Call[str]):
    """Keeps the server busy for so long, then is answered."""

    seconds: float


@frozen
class Fail(Call[str]):
    """Raises in the handler, before any reply."""

    exception: Exception


@frozen
class Run(Call[object]):
    """Awaits a function of the test inside the server."""

    function: Callable[[], Any]


@frozen
class Seen(Call[list[object]]):
    """What the server was sent since it was started."""


@frozen
class Note(Info):
    """Kept by the server among what it saw."""

    text: str


@frozen
class End:
    """Cast: stop with that reason."""

    reason: ExitReason


@frozen
class Raise:
    """Cast: raise that in the handler."""

    exception: BaseException


@frozen
class Busy:
    """Cast: handle this for so long."""

    seconds: float


class Boom(Exception):
    """The bug of the tests."""


class Trace:
    """What happened, as short words: ``+a`` a was initialised, ``-a`` a was terminated, ``!a`` a failed to start."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.reasons: list[ExitReason] = []

    def __call__(self, event: str) -> None:
        """Note ``event``."""
        self.events.append(event)

    def take(self) -> str:
        """The words since the last time, in one line."""
        events, self.events = self.events, []
        return " ".join(events)

    def child(
        self,
        id: str,  # noqa: A002 - as the option of a child spec
        *,
        inits: Iterable[Init] = (),
        terminate: float | BaseException | Callable[[], None] | None = None,
        **options: Any,
    ) -> ChildSpec:
        """A child whose incarnations init as told, in turn, and afterwards well."""
        script = iter(inits)
        return ChildSpec(id=id, start=lambda: Traced(self, id, next(script, None), terminate), **options)

    def children(self, ids: str, **options: Any) -> list[ChildSpec]:
        """One child for each letter."""
        return [self.child(id_, **options) for id_ in ids]


class Traced(GenServer[Any]):
    """Writes its life into a trace and does what it is told."""

    def __init__(
        self,
        trace: Trace,
        id: str,  # noqa: A002 - as the option of a child spec
        init: Init = None,
        terminate: float | BaseException | Callable[[], None] | None = None,
    ) -> None:
        self.trace = trace
        self.id = id
        self._init = init
        self._terminate = terminate
        self.seen: list[object] = []

    async def init(self) -> Any:
        match self._init:
            case BaseException() as error:
                self.trace(f"!{self.id}")
                raise error
            case float() | int() as seconds:
                await asyncio.sleep(seconds)
                self.trace(f"+{self.id}")
                return None
            case outcome:
                self.trace(f"+{self.id}")
                return outcome

    async def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        match message:
            case Ping(text):
                return text
            case Work(seconds):
                await asyncio.sleep(seconds)
                return "done"
            case Fail(exception):
                raise exception
            case Run(function):
                return await function()
            case Seen():
                return list(self.seen)
            case _:
                raise TypeError(message)

    async def handle_cast(self, message: Any) -> Any:
        match message:
            case End(reason):
                return Stop(reason)
            case Raise(exception):
                raise exception
            case Busy(seconds):
                await asyncio.sleep(seconds)
                self.trace(f"={self.id}")
                return None
            case _:
                self.seen.append(message)
                return None

    def handle_info(self, message: Info) -> Any:
        self.seen.append(message)

    def handle_continue(self, term: object) -> Any:
        self.trace(f"~{self.id}")
        self.seen.append(term)

    async def terminate(self, reason: ExitReason) -> None:
        self.trace(f"-{self.id}")
        self.trace.reasons.append(reason)
        match self._terminate:
            case BaseException() as error:
                raise error
            case float() | int() as seconds:
                await asyncio.sleep(seconds)
                self.trace(f".{self.id}")
            case None:
                pass
            case function:
                function()


def nested(
    id_: str,
    *children: ChildSpec,
    restart: Restart = "permanent",
    shutdown: ShutdownPolicy = "infinity",
    significant: bool = False,
    **options: Any,
) -> ChildSpec:
    """A supervisor over ``children``, as a child."""
    return ChildSpec(
        id=id_,
        start=lambda: Supervisor(children, **options),
        type="supervisor",
        restart=restart,
        shutdown=shutdown,
        significant=significant,
    )


class Stubborn(GenServer[Any]):
    """Swallows every cancellation for as long as it is told to: it cannot be killed before."""

    def __init__(self, release: asyncio.Event) -> None:
        self.release = release

    async def handle_cast(self, message: Any) -> None:
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                continue


@asynccontextmanager
async def running(
    *children: ChildSpec, registry: Registry | None = None, fail_circular_calls: bool = False, **options: Any
) -> AsyncIterator[ActorRef]:
    """A root supervisor over ``children``, stopped at the end; whatever is left then is an error."""
    async with leak_check():
        root = await start(
            lambda: Supervisor(children, **options), registry=registry, fail_circular_calls=fail_circular_calls
        )
        try:
            yield root
        finally:
            await halt(root)


@asynccontextmanager
async def dynamic(*, registry: Registry | None = None, **options: Any) -> AsyncIterator[ActorRef]:
    """A root that is a dynamic supervisor; likewise."""
    async with leak_check():
        root = await start(lambda: DynamicSupervisor(**options), registry=registry)
        try:
            yield root
        finally:
            await halt(root)


@asynccontextmanager
async def server(factory: Callable[[], GenServer[Any]], **options: Any) -> AsyncIterator[ActorRef]:
    """A root that is a single server; likewise."""
    async with leak_check():
        ref = await start(factory, **options)
        try:
            yield ref
        finally:
            await halt(ref)


async def halt(ref: ActorRef) -> None:
    """Stop it if it runs, and wait until it has ended."""
    if ref.alive:
        await ref.stop(timeout=3600)
    await settle()


async def end(ref: ActorRef, reason: ExitReason) -> None:
    """Let ``ref`` end for ``reason``, and everybody learn of it."""
    match reason:
        case Killed():
            ref.exit(reason)
        case Crashed(exception):
            ref.cast(Raise(exception))
        case _:
            ref.cast(End(reason))
    await settle()


async def fail(root: ActorRef, *ids: str) -> None:
    """Let the children crash at one moment, in that order."""
    refs = [await child(root, id_) for id_ in ids]
    for ref in refs:
        ref.cast(Raise(Boom()))
    await settle()


async def child(root: ActorRef, id_: str) -> ActorRef:
    """The running child of that id."""
    ref = (await info(root, id_)).ref
    assert ref is not None, f"{id_} does not run"
    return ref


async def info(root: ActorRef, id_: str) -> ChildInfo:
    """What the supervisor knows of a child."""
    return next(each for each in await root.which_children() if each.id == id_)


async def ids(root: ActorRef) -> str:
    """The ids of the children in start order, in one line."""
    return " ".join(each.id for each in await root.which_children())


def states(root: ActorRef) -> dict[str, str]:
    """The state of each child, from the snapshot."""
    return {node.id: node.state for node in tree(root).children}


def node(root: ActorRef, *path: str) -> TreeNode:
    """The node under the ids of ``path``."""
    found = tree(root)
    for id_ in path:
        found = next(each for each in found.children if each.id == id_)
    return found


async def until(holds: Callable[[], bool], seconds: float = 0.001) -> None:
    """Wait until something holds that nobody tells of, looking again every so many seconds."""
    while not holds():
        await asyncio.sleep(seconds)


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Seconds of the loop's clock since the block began."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    yield lambda: round(loop.time() - began, 6)


def counted(values: Iterable[object]) -> Counter[str]:
    """How many values of each type."""
    return Counter(type(value).__name__ for value in values)


def letters(ref: ActorRef) -> Counter[str]:
    """The dead letters of the tree that ``ref`` belongs to, by cause."""
    return Counter(dead_letters(ref))
