"""The tree's own events as the gateway's: what of it an operator wants to know about."""

from __future__ import annotations

from runestone.telemetry.bus import Bus
from runestone.telemetry.events import LoopHeldUp, ProcessRestarted, SupervisorGaveUp
from supervisors.events import Event as TreeEvent
from supervisors.events import GaveUp, LoopBlocked, Restarting


def tell_of_tree(bus: Bus, event: TreeEvent) -> None:
    """An observer of the tree, once it has its bus."""
    match event:
        case Restarting():
            path = f"{event.supervisor.path}/{event.id}"
            bus.emit(ProcessRestarted(process=path, reason=_reason(event.reason), delay_seconds=event.delay_seconds))
        case GaveUp():
            bus.emit(SupervisorGaveUp(supervisor=event.supervisor.path, child=event.id))
        case LoopBlocked():
            bus.emit(LoopHeldUp(seconds=event.seconds, task=event.task))
        case _:
            pass  # starts and ends are the tree's business


def _reason(reason: object) -> str:
    """The kind of an end: its text may hold anything."""
    exception = getattr(reason, "exception", None)
    return type(reason if exception is None else exception).__name__
