"""Why a process ended.

Every process leaves exactly one exit reason, and that reason alone decides what its supervisor does:

* :class:`Normal` - it was done.
* :class:`Shutdown` - it was asked to stop, or stops by its own decision; ``detail`` may say why.
* :class:`Killed` - it was killed, or a stranger cancelled its task.
* :class:`Crashed` - an exception ended it.
* :class:`NoProc` - there was no such process; only callers, monitors and links see this one.

The first two are normal ends, the others abnormal:

>>> is_abnormal(Shutdown("drained")), is_abnormal(Killed())
(False, True)
>>> print(Crashed(TypeError("text")))
TypeError: text
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Normal:
    """It was done."""

    def __str__(self) -> str:
        return "normal"


@frozen
class Shutdown:
    """It was asked to stop, or chose to. A transient child is not restarted after it."""

    detail: object = None

    def __str__(self) -> str:
        return "shutdown" if self.detail is None else f"shutdown: {self.detail}"


@frozen
class Killed:
    """It was killed: no ``terminate`` ran. Also what a task leaves that somebody cancelled who is no part of the tree."""

    def __str__(self) -> str:
        return "killed"


@frozen(eq=False)
class Crashed:
    """An exception ended it. Two of them are equal only if they are the same object."""

    exception: BaseException

    def __str__(self) -> str:
        return f"{type(self.exception).__name__}: {self.exception}"


@frozen
class NoProc:
    """There was no such process."""

    def __str__(self) -> str:
        return "noproc"


ExitReason = Normal | Shutdown | Killed | Crashed | NoProc


def is_abnormal(reason: ExitReason) -> bool:
    """Whether a transient child is restarted after ``reason``."""
    return not isinstance(reason, Normal | Shutdown)
