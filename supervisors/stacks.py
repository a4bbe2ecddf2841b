"""Where the tasks of a loop are: their stacks, without a value in them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import PurePath
from types import CodeType, FrameType
from typing import Any, Final

from attrs import frozen

LOOP: Final = "event loop"
_FRAMES: Final = 40
_PARTS: Final = 3  # of a file's path


@frozen(kw_only=True)
class TaskStack:
    """One task, or the thread of the loop itself (``"event loop"``).

    * ``task`` - its name: of a process of a tree it is the path.
    * ``state`` - ``"running"`` or ``"waiting"``.
    * ``frames`` - ``file:line function``, the innermost last, 40 at most.
    """

    task: str
    state: str
    frames: tuple[str, ...]


def stacks(loop: asyncio.AbstractEventLoop, thread: int) -> list[TaskStack]:
    """Where every task of ``loop`` is, which runs in ``thread``: first the thread itself, then the tasks by name.

    It may be called from any thread, and answers while the loop is stuck; only code that keeps the interpreter's lock stops it. It shows
    places alone: no arguments, no values.

    >>> import threading
    >>> async def sleeper() -> None:
    ...     await asyncio.sleep(60)
    >>> async def main() -> None:
    ...     task = asyncio.create_task(sleeper(), name="sleeper")
    ...     await asyncio.sleep(0)
    ...     found = await asyncio.to_thread(stacks, asyncio.get_running_loop(), threading.get_ident())
    ...     print(found[0].task, [(one.state, one.frames[-1].split()[-1]) for one in found if one.task == "sleeper"])
    ...     task.cancel()
    >>> asyncio.run(main())
    event loop [('waiting', 'sleep')]
    """
    current = asyncio.current_task(loop)
    here = tuple(_of_thread(sys._current_frames().get(thread)))  # noqa: SLF001 - there is no other way to see another thread's stack
    tasks = [
        TaskStack(task=task.get_name(), state="running", frames=here)
        if task is current
        else TaskStack(task=task.get_name(), state="waiting", frames=tuple(_awaiting(task.get_coro())))
        for task in asyncio.all_tasks(loop)
    ]
    return [TaskStack(task=LOOP, state="running", frames=here), *sorted(tasks, key=lambda one: one.task)]


def _of_thread(frame: FrameType | None) -> list[str]:
    places: list[str] = []
    while frame is not None and len(places) < _FRAMES:
        places.append(_place(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return places[::-1]


def _awaiting(awaited: Any) -> Iterator[str]:
    """From a task's coroutine along what each waits for. What is not written in Python has no frame, and ends it."""
    for _ in range(_FRAMES):
        for frame, next_ in (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await")):
            if isinstance(here := getattr(awaited, frame, None), FrameType):
                yield _place(here.f_code, here.f_lineno)
                awaited = getattr(awaited, next_)
                break
        else:
            return


def _place(code: CodeType, line: int | None) -> str:
    return f"{'/'.join(PurePath(code.co_filename).parts[-_PARTS:])}:{line} {code.co_qualname}"
