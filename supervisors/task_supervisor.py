"""Functions run as processes, one after the other or many at once, with their results."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

from supervisors.child import Child
from supervisors.child_spec import ChildSpec
from supervisors.dynamic_supervisor import DynamicSupervisor
from supervisors.errors import ActorExited, NoProcess, StartError
from supervisors.exit import Crashed, ExitReason, Shutdown
from supervisors.gen_server import Task
from supervisors.process import Process, current_process
from supervisors.ref import Address
from supervisors.results import MaxChildren

S = TypeVar("S")
T = TypeVar("T")
_SHUTDOWN_SECONDS = 5.0


class TaskHandle(Generic[T]):
    """A function that runs under a :class:`TaskSupervisor`. Await it for the result, as often as wanted.

    * ``process`` - where it runs; monitor it, or read its ``reason``.
    """

    __slots__ = ("_linked", "future", "process")

    process: Process

    def __init__(self, *, linked: bool) -> None:
        self._linked = linked
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[Any, None, T]:
        return self._result().__await__()

    def cancel(self) -> None:
        """Stop it as its supervisor would: it is cancelled, and has some seconds to clean up in."""
        self.process.shutdown(_SHUTDOWN_SECONDS)

    async def _result(self) -> T:
        try:
            return await asyncio.shield(self.future)
        except asyncio.CancelledError:
            if self._linked:
                self.cancel()
            raise

    async def run(self, function: Callable[..., Awaitable[T]], arguments: tuple[Any, ...]) -> None:
        """Run it, inside its process."""
        result = await function(*arguments)
        if not self.future.done():  # pragma: no branch - whoever awaits it may be gone
            self.future.set_result(result)

    def ended(self, _: Process, reason: ExitReason) -> None:
        """Its process has ended; without a result, that is what whoever awaits it learns."""
        if not self.future.done():
            linked_crash = self._linked and isinstance(reason, Crashed) and isinstance(reason.exception, Exception)
            error = reason.exception if linked_crash and isinstance(reason, Crashed) else ActorExited(reason)
            self.future.set_exception(error)
            self.future.exception()  # nobody need be waiting


class TaskSupervisor(DynamicSupervisor):
    """Runs functions as temporary children, and hands their results over.

    >>> from supervisors import TaskSupervisor, start
    >>> async def square(number: int) -> int:
    ...     return number * number
    >>> async def main() -> list[int]:
    ...     tasks = await start(TaskSupervisor)
    ...     seven = TaskSupervisor.async_(tasks, square, 7)  # runs from here on
    ...     squares = [n async for n in TaskSupervisor.stream(tasks, [1, 2, 3], square, max_concurrency=2)]
    ...     squares.append(await seven)
    ...     await tasks.stop()
    ...     return squares
    >>> asyncio.run(main())
    [1, 4, 9, 49]

    It takes the options of a :class:`DynamicSupervisor`, and adopts and starts other children as one.
    """

    @staticmethod
    def async_(supervisor: Address, function: Callable[..., Awaitable[T]], *arguments: Any) -> TaskHandle[T]:
        """Start ``function(*arguments)`` under ``supervisor``; await what is returned for the result.

        It is tied to the process that calls: an exception is raised at the ``await`` as itself, so it is the caller's crash unless the
        caller handles it; when the caller ends, or its ``await`` is cancelled, the function is cancelled.

        Raises :class:`NoProcess` if the supervisor is not there, :class:`StartError` if it has ``max_children`` already.
        """
        handle: TaskHandle[T] = TaskHandle(linked=True)
        _start(supervisor, handle, function, arguments)
        owner = current_process()
        if owner is not None and owner.reason is None:
            children = owner.children = {} if owner.children is None else owner.children
            children[handle.process] = _SHUTDOWN_SECONDS
            handle.process.on_exit(lambda process, _: children.pop(process, None))
        return handle

    @staticmethod
    def async_nolink(supervisor: Address, function: Callable[..., Awaitable[T]], *arguments: Any) -> TaskHandle[T]:
        """As :meth:`async_`, but it lives on when the caller ends, and its failure is an :class:`ActorExited` with its reason."""
        handle: TaskHandle[T] = TaskHandle(linked=False)
        _start(supervisor, handle, function, arguments)
        return handle

    @staticmethod
    async def stream(
        supervisor: Address,
        iterable: Iterable[S],
        function: Callable[[S], Awaitable[T]],
        *,
        max_concurrency: int = 8,
        ordered: bool = True,
    ) -> AsyncGenerator[T, None]:
        """Run ``function`` on each item, and yield the results.

        * ``max_concurrency`` - how many run at once, and how many results are held at most.
        * ``ordered`` - results come in the order of the items; otherwise as they are done.

        An exception is raised where its result would come, and ends the stream; what still runs is then cancelled, as it is when the
        stream is closed early.
        """
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency must be at least 1, not {max_concurrency}")
        items = iter(iterable)
        running: deque[TaskHandle[T]] = deque()
        try:
            while True:
                while len(running) < max_concurrency and (item := next(items, _END)) is not _END:
                    running.append(TaskSupervisor.async_(supervisor, function, item))
                if not running:
                    return
                handle = running[0] if ordered else await _first(running)
                result = await handle
                running.remove(handle)
                yield result
        finally:
            for handle in running:
                handle.cancel()
            for handle in running:
                await handle.process.wait()

    def start_task(
        self, handle: TaskHandle[Any], function: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...]
    ) -> None:
        """Start one at once: it has no ``init`` to wait for, so the supervisor's queue need not be asked."""
        me = self.process
        if self._max_children is not None and len(self._children) >= self._max_children:
            raise StartError(me.path, Shutdown(MaxChildren()))
        label = getattr(function, "__name__", type(function).__name__)
        child = Child(
            ChildSpec(
                id=label,
                start=lambda: Task(lambda: handle.run(function, arguments)),
                restart="temporary",
                shutdown=_SHUTDOWN_SECONDS,
            )
        )
        process = handle.process = Process(me.system, label, parent=me)
        child.process, child.state, child.lives = process, "running", 1
        self._children[child] = None
        self._by_process[process] = child
        assert me.children is not None
        me.children[process] = _SHUTDOWN_SECONDS
        process.on_exit(handle.ended)
        process.report_exit()
        process.run(child.spec.start().server(process).run)


_END: Any = object()


def _start(
    supervisor: Address, handle: TaskHandle[Any], function: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...]
) -> None:
    process = supervisor.resolve()
    if process is None or not process.serves:
        raise NoProcess
    if not isinstance(process.behaviour, TaskSupervisor):
        raise TypeError(f"{process.path} is no task supervisor")
    process.behaviour.start_task(handle, function, arguments)


async def _first(running: deque[TaskHandle[T]]) -> TaskHandle[T]:
    futures = {handle.future: handle for handle in running}
    done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    return next(handle for future, handle in futures.items() if future in done)
