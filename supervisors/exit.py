"""Why a process ended."""

from __future__ import annotations

from attrs import frozen


@frozen
class Normal:
    """It was done."""


@frozen
class Shutdown:
    """It was asked to stop."""

    detail: object = None


@frozen
class Killed:
    """It was killed, or cancelled by a stranger."""


@frozen(eq=False)
class Crashed:
    """An exception ended it."""

    exception: BaseException

    def __str__(self) -> str:
        return f"{type(self.exception).__name__}: {self.exception}"


@frozen
class NoProc:
    """There was no such process."""


ExitReason = Normal | Shutdown | Killed | Crashed | NoProc


def is_abnormal(reason: ExitReason) -> bool:
    """Whether a transient child is restarted after ``reason``."""
    return not isinstance(reason, Normal | Shutdown)
