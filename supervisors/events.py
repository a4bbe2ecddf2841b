"""What happens in a tree, told to observers as it happens.

An observer is a function of one event, given to :func:`supervisors.start`. It runs inside the process that ends or starts, so it must be
quick and must not wait. Without one, :class:`LogObserver` writes to the logger ``supervisors``.

Adopted processes emit no events: they come and go with each request.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

from attrs import frozen

from supervisors.exit import Crashed, ExitReason, is_abnormal

if TYPE_CHECKING:
    from supervisors.process import Process

_REPORTS = 20
_REPORT_SECONDS = 5.0
_REPR_CHARACTERS = 500


@frozen
class Started:
    """A process has started: its ``init`` has returned."""

    process: Process


@frozen
class Exited:
    """A process has ended. A supervisor that restarts it says so with :class:`Restarting`."""

    process: Process
    reason: ExitReason


@frozen(kw_only=True)
class Restarting:
    """A supervisor is about to restart ``id``, after ``delay_seconds``."""

    supervisor: Process
    id: str
    reason: ExitReason | None
    delay_seconds: float


@frozen(kw_only=True)
class GaveUp:
    """More than ``max_restarts`` restarts within ``max_seconds``: the supervisor stops its children and exits ``Shutdown()``."""

    supervisor: Process
    id: str
    reason: ExitReason | None
    max_restarts: int
    max_seconds: float


@frozen
class LoopBlocked:
    """The event loop was held up for ``seconds``, by ``task`` (of a process: its path), which was at ``stack`` meanwhile.

    Told by a :class:`~supervisors.LoopMonitor` when the loop goes on. What held the interpreter too lets no thread look: then ``task`` is
    ``"unknown"`` and ``stack`` is empty.
    """

    monitor: Process
    seconds: float
    task: str
    stack: str


@frozen(kw_only=True)
class CrashReport:
    """An exception has ended a process.

    * ``last_message`` - the ``repr`` of what it was handling, cut to a bound; ``None`` outside of a handler.
    * ``state`` - what ``redacted_status()`` of the behaviour returned: by default its ``status()``, which shows no secrets.
    * ``stack`` - the formatted traceback.
    * ``suppressed`` - how many reports before this one were left out by the rate limit.
    """

    process: Process
    reason: Crashed
    last_message: str | None
    state: Mapping[str, object]
    stack: str
    suppressed: int = 0


Event = Started | Exited | Restarting | GaveUp | CrashReport | LoopBlocked


class ReportLimit:
    """At most so many crash reports in a window: a storm of restarts must not become a storm of logs."""

    __slots__ = ("_at", "_suppressed")

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=_REPORTS)
        self._suppressed = 0

    def admit(self, now: float) -> int | None:
        """How many were left out before this one; ``None`` if this one is to be left out."""
        if len(self._at) == _REPORTS and self._at[0] > now - _REPORT_SECONDS:
            self._suppressed += 1
            return None
        self._at.append(now)
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


def bounded_repr(value: object) -> str:
    """``repr`` of ``value``, cut to a bound; never an exception."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a report must not fail because a repr does
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= _REPR_CHARACTERS else f"{text[:_REPR_CHARACTERS]}..."


def crash_report(
    process: Process, reason: Crashed, last_message: object | None, state: Mapping[str, object], suppressed: int
) -> CrashReport:
    """Make the report of one crash."""
    return CrashReport(
        process=process,
        reason=reason,
        last_message=None if last_message is None else bounded_repr(last_message),
        state=state,
        stack="".join(traceback.format_exception(reason.exception)),
        suppressed=suppressed,
    )


class LogObserver:
    """Writes events to a standard logger: crashes and giving up as errors, restarts as warnings, the rest for debugging.

    Reasons are written out at once: a log record that is kept must not keep a dead actor, which the reason's traceback refers to.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger("supervisors") if logger is None else logger

    def __call__(self, event: Event) -> None:
        """Write one line, or a few."""
        log = self._logger
        match event:
            case CrashReport():
                log.error(
                    "%s crashed: %s; last message %s; state %s; %d reports left out\n%s",
                    *(event.process.path, str(event.reason), event.last_message, dict(event.state), event.suppressed),
                    event.stack,
                )
            case GaveUp():
                limits = event.max_restarts, event.max_seconds
                log.error("%s gives up: %s; limit is %d in %g s", event.supervisor.path, event.id, *limits)
            case Restarting():
                path = event.supervisor.path
                log.warning("%s/%s restarts after %s", path, event.id, str(event.reason))
            case Exited(process, reason):
                log.log(
                    logging.INFO if is_abnormal(reason) else logging.DEBUG, "%s ended: %s", process.path, str(reason)
                )
            case Started(process):
                log.debug("%s started", process.path)
            case LoopBlocked():
                log.warning("the event loop was blocked for %.2f s by %s", event.seconds, event.task)
            case _:
                assert_never(event)
