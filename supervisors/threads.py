"""The threads of a tree, for work that blocks."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final, ParamSpec, TypeVar

from attrs import define, field

P = ParamSpec("P")
R = TypeVar("R")

_THREADS: Final = 32


class _DaemonThreads(Executor):
    """A thread for each call, which the end of the program does not wait for: a call that never returns must not hold it up."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Start it."""
        future: Future[R] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():  # pragma: no cover - cancelled before the thread began
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever awaits it
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, name=getattr(fn, "__name__", "blocking"), daemon=True).start()
        return future


@define(slots=True, eq=False)
class Threads:
    """The threads of one tree: at most ``limit`` run at once, whoever comes then waits in line.

    ``abandoned`` are those that run on for nobody, because who awaited them was cancelled: a thread cannot be killed. Each still takes its
    place, and goes when it is done at last.
    """

    limit: int = _THREADS
    running: int = 0
    abandoned: set[Future[Any]] = field(factory=set)
    _line: deque[asyncio.Future[None]] = field(factory=deque)
    _executor: _DaemonThreads = field(factory=_DaemonThreads)

    async def run(self, function: Callable[..., R], arguments: tuple[Any, ...]) -> R:
        """The result of ``function``, run on a thread in a copy of the present context."""
        await self._enter()
        loop, context = asyncio.get_running_loop(), copy_context()
        futures: list[Future[Any]] = []

        def work() -> R:
            try:
                return context.run(function, *arguments)
            except StopIteration as error:  # which no future can hold
                raise RuntimeError(f"{function!r} raised StopIteration") from error

        def ended(future: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._leave, future)

        try:
            waiting = loop.run_in_executor(_Keeping(self._executor, futures), work)
        except BaseException:  # the system has no thread left, or the loop is closed
            self._pass_on()
            raise
        (future,) = futures
        future.add_done_callback(ended)
        try:
            return await waiting
        except asyncio.CancelledError:
            if not future.done():  # pragma: no branch - it may be done in this moment
                self.abandoned.add(future)
            raise

    async def _enter(self) -> None:
        if self.running < self.limit:
            self.running += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._pass_on()
            elif place in self._line:
                self._line.remove(place)
            raise

    def _leave(self, future: Future[Any]) -> None:
        self.abandoned.discard(future)
        self._pass_on()

    def _pass_on(self) -> None:
        """Give the place to the next in line."""
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.running -= 1


class _Keeping(Executor):
    """Shows the future of what is submitted: asyncio keeps it to itself."""

    def __init__(self, executor: Executor, futures: list[Future[Any]]) -> None:
        self._executor = executor
        self._futures = futures

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Pass it on."""
        future = self._executor.submit(fn, *args, **kwargs)
        self._futures.append(future)
        return future
