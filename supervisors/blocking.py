"""Work that blocks, on threads of the tree: a handler awaits it, and every other actor goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from supervisors.errors import NoProcess
from supervisors.process import current_process
from supervisors.ref import ActorRef

R = TypeVar("R")


def abandoned_threads(root: ActorRef) -> int:
    """How many threads of the tree under ``root`` run on for nobody; see :func:`run_blocking`."""
    return len(root.process.system.threads.abandoned)


async def run_blocking(function: Callable[..., R], *arguments: Any) -> R:
    """The result of ``function(*arguments)``, which may block, run on a thread of the tree that the present process belongs to.

    >>> import asyncio, time
    >>> from supervisors import Task, start
    >>> async def work() -> None:
    ...     print(await run_blocking(time.strftime, "%Y", time.gmtime(0)))
    >>> async def main() -> None:
    ...     task = await start(lambda: Task(work))
    ...     await task.wait()
    >>> asyncio.run(main())
    1970

    An actor whose handler awaits it is busy meanwhile, as by any other ``await``; one that must go on listening awaits it in a process of
    its own (:meth:`~supervisors.GenServer.spawn`). It sees the context variables of here. What ``function`` raises is raised here.

    At most 32 run at once, the others wait in line. If the caller is cancelled or killed, the thread runs on, for no thread can be killed:
    it keeps its place, and is counted as abandoned (:func:`~supervisors.abandoned_threads`) until it is done. Nothing waits for it at the
    end of the tree or of the program.

    Raises :class:`NoProcess` outside of any process, ``RuntimeError`` where the system starts no more threads.
    """
    process = current_process()
    if process is None:
        raise NoProcess
    return await process.system.threads.run(function, arguments)
