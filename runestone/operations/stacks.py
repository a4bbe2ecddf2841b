"""Where the tasks of a node are, as data. It needs no loop to answer: any thread may ask."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from typing import Any, Final

from runestone.operations.errors import OperationError
from supervisors import stacks

_SHOWN: Final = 500


def answer(loop: asyncio.AbstractEventLoop, thread: int, task: str | None = None) -> dict[str, Any]:
    """The stacks of ``loop``'s tasks, 500 at most; ``task`` chooses by name, with ``*`` in it where wanted.

    Raises :class:`OperationError` ``not_found`` where there is none of that name.
    """
    found = stacks(loop, thread)
    chosen = [one for one in found if task is None or fnmatchcase(one.task, task)]
    if not chosen:
        raise OperationError("not_found", f"there is no task {task!r}; a name may hold a *")
    shown = [{"task": one.task, "state": one.state, "frames": list(one.frames)} for one in chosen[:_SHOWN]]
    return {"tasks": len(found) - 1, "chosen": len(chosen), "stacks": shown}
