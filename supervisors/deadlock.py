"""Calls that could never be answered, found before they wait."""

from __future__ import annotations

import asyncio

from supervisors.errors import CircularCall
from supervisors.process import Process


def check_call(me: Process, target: Process) -> None:
    """Raise :class:`CircularCall` if ``target`` waits, maybe through others, for ``me``.

    A process waits for the one that owes it a reply, or, being a supervisor, for the child that it starts or stops. A call to oneself
    always fails, as in OTP; longer chains where the tree has ``fail_circular_calls``.
    """
    if (me is target or me.system.fail_circular_calls) and asyncio.current_task() is me.task:
        chain = chain_to(me, target)
        if chain is not None:
            raise CircularCall([me.path, *chain])


def chain_to(me: Process, target: Process) -> list[str] | None:
    """The paths from ``target`` to ``me``, each of which waits for the next; ``None`` if they do not lead there."""
    chain: list[str] = []
    seen: set[Process] = set()
    process: Process | None = target
    while process is not None and process not in seen:
        seen.add(process)
        chain.append(process.path)
        if process is me:
            return chain
        process = process.calling.target if process.calling is not None else process.attends
    return None
