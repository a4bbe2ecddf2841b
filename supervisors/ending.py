"""How an exception becomes an exit reason."""

from __future__ import annotations

import asyncio

from supervisors.exit import Crashed, ExitReason, Killed


def reason_of(error: BaseException) -> ExitReason:
    """The exit reason of a task that ``error`` ended.

    A group is one crash, except that a group of nothing but cancellations is a cancellation, and one that holds an interrupt is that
    interrupt.
    """
    if isinstance(error, BaseExceptionGroup):
        leaves = _leaves(error)
        if interrupt := next((leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt | SystemExit)), None):
            return Crashed(interrupt)
        if all(isinstance(leaf, asyncio.CancelledError) for leaf in leaves):
            return Killed()
    return Killed() if isinstance(error, asyncio.CancelledError) else Crashed(error)


def interrupt_in(reason: ExitReason | None) -> BaseException | None:
    """The KeyboardInterrupt or SystemExit that ``reason`` holds. Nothing is restarted after one."""
    if isinstance(reason, Crashed) and isinstance(reason.exception, KeyboardInterrupt | SystemExit):
        return reason.exception
    return None


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
