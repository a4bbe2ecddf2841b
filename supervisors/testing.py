"""Tools for tests of actors: a loop whose time jumps, a way to let everything settle, crashes on demand, a check for leaks.

With anyio's pytest plugin, a fixture ``anyio_backend`` that returns ``("asyncio", {"loop_factory": VirtualTimeLoop})`` runs all tests on
such a loop. It waits for timers, not for the outside world: never use it with sockets to another process.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import random
import selectors
from collections import deque
from collections.abc import Callable
from contextvars import Context
from types import TracebackType
from typing import Any

from supervisors.events import Event
from supervisors.process import Process
from supervisors.ref import ActorRef
from supervisors.registry import Registry

_SETTLE_STEPS = 10_000
_SETTLE_STEPS_BLIND = 50  # on a loop that does not tell whether anything is ready
_THREAD_SECONDS = 1.0


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: where a real one would sleep until the next timer, it moves the clock there."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0
        self.threads = 0  # that somebody waits for
        self.had_threads = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (self.had_threads if timeout is None else self.threads and timeout > 0):
            ready = super().select(
                _THREAD_SECONDS
            )  # a thread takes real time, and no deadline may pass because of that
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("every task is waiting and no timer is set: deadlock")
        self.elapsed += max(0.0, timeout)
        return ready


class _Timer(asyncio.TimerHandle):
    __slots__ = ("order",)

    order: int

    def __lt__(self, other: Any) -> bool:
        return (self.when(), self.order) < (other.when(), other.order)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is to do: an hour of sleep takes no time.

    >>> with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
    ...     runner.run(asyncio.sleep(3600, "an hour later"))
    'an hour later'

    * ``seed`` - shuffles which of the tasks that could run runs first. The same seed gives the same order again, so an order that
      breaks something can be replayed: ``loop_factory=partial(VirtualTimeLoop, seed=7)``.

    A deadlock (every task waits, and no timer is set) raises ``RuntimeError`` at once.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        self._jumping = _JumpingSelector()
        self._orders = itertools.count()
        self._chance = None if seed is None else random.Random(seed)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the loop was made, as its timers see them."""
        return self._jumping.elapsed

    def call_at(  # type: ignore[override]  # its type variables say no more than this
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As ever, except that timers of the same moment fire in the order in which they were set.

        In real life no two are of the same moment, so nothing else would be true to it.
        """
        scheduled: list[asyncio.TimerHandle] | None = getattr(self, "_scheduled", None)
        if scheduled is None:  # pragma: no cover - a loop of another make
            return super().call_at(when, callback, *args, context=context)
        timer = _Timer(when, callback, args, self, context)
        timer.order = next(self._orders)
        heapq.heappush(scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]  # noqa: SLF001 - as BaseEventLoop does
        return timer

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # likewise
        """As ever; while somebody waits for the thread, the clock stands still for a second of real time before it jumps."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        self._jumping.had_threads = True
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: object) -> None:
        self._jumping.threads -= 1

    def _run_once(self) -> None:
        if self._chance is not None:
            _shuffle(getattr(self, "_ready", None), self._chance)
        super()._run_once()  # type: ignore[misc]  # private, and there in every CPython so far


def _shuffle(ready: deque[asyncio.Handle] | None, chance: random.Random) -> None:
    """Change the order of the tasks in ``ready``. Plain callbacks keep their places: their order is asyncio's promise."""
    if not ready:
        return
    places = [index for index, handle in enumerate(ready) if isinstance(_owner(handle), asyncio.Task)]
    handles = [ready[index] for index in places]
    chance.shuffle(handles)
    for index, handle in zip(places, handles, strict=True):
        ready[index] = handle


def _owner(handle: asyncio.Handle) -> object:
    return getattr(getattr(handle, "_callback", None), "__self__", None)


async def settle() -> None:
    """Return when every other task waits for a timer, for the outside world or for this one. Time does not pass.

    Raises ``RuntimeError`` if they never come to rest.
    """
    loop = asyncio.get_running_loop()
    ready: deque[asyncio.Handle] | None = getattr(loop, "_ready", None)
    if ready is None:  # uvloop does not tell
        for _ in range(_SETTLE_STEPS_BLIND):
            await asyncio.sleep(0)
        return
    for _ in range(_SETTLE_STEPS):
        await asyncio.sleep(0)
        if not ready:
            return
    raise RuntimeError(f"still busy after {_SETTLE_STEPS} turns")


def crash(ref: ActorRef, exception: BaseException) -> None:
    """Make the actor crash as if a handler had raised ``exception``; ``terminate`` runs. It has crashed after ``await settle()``."""
    ref.process.crash(exception)


class Recorder:
    """An observer that keeps what it is told.

    >>> from supervisors import GenServer, start
    >>> async def main() -> list[str]:
    ...     recorder = Recorder()
    ...     actor = await start(GenServer, observers=[recorder])
    ...     crash(actor, ValueError("bug"))
    ...     await settle()
    ...     return [type(event).__name__ for event in recorder.events]
    >>> with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
    ...     runner.run(main())
    ['Started', 'CrashReport', 'Exited']
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def of(self, *kinds: type[Any]) -> list[Any]:
        """The events of these types, in order."""
        return [event for event in self.events if isinstance(event, kinds)]


class leak_check:  # noqa: N801 - used as a function
    """Fail if the block leaves anything behind: a living process, a task, a name, a monitor.

    ``async with`` lets everything settle before it looks, ``with`` does not. Raises ``AssertionError`` that lists what is left.
    """

    def __enter__(self) -> None:
        self._tasks = _tasks()
        self._processes: set[Process] = set()
        self._froze = gc.get_freeze_count() == 0
        if (
            self._froze
        ):  # the outermost: what is there already is not looked at, so that the look is as quick as the block is small
            gc.freeze()
        else:
            self._processes.update(process for process in _objects()[0] if _lives(process))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None and self._left():
                gc.collect()  # what nobody refers to is no leak
                if left := self._left():
                    raise AssertionError("left behind: " + "; ".join(left))
        finally:
            if self._froze:
                gc.unfreeze()

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await settle()
        self.__exit__(kind, error, traceback)

    def _left(self) -> list[str]:
        processes, registries = _objects()
        left = [repr(process) for process in processes if _lives(process) and process not in self._processes]
        left += [repr(task) for task in _tasks() - self._tasks]
        left += [f"monitor of {p!r}" for p in processes for m in p.monitors if m.watcher.reason is not None]
        left += [f"name {n!r}" for registry in registries for n, ref in registry.names().items() if not ref.alive]
        return left


def _lives(process: Process) -> bool:
    return process.reason is None and process.task is not None


def _objects() -> tuple[list[Process], list[Registry]]:
    objects = [o for o in gc.get_objects() if type(o) is Process or type(o) is Registry]
    return [o for o in objects if type(o) is Process], [o for o in objects if type(o) is Registry]


def _tasks() -> set[asyncio.Task[Any]]:
    try:
        return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    except RuntimeError:  # no loop runs
        return set()
