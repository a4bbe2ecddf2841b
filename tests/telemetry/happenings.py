"""Events of requests, as a request's own task emits them."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

from runestone.telemetry.bus import Bus
from runestone.telemetry.events import AttemptFinished, AttemptStarted, RequestFinished, RequestStarted

ROUTE = "/v1/chat/completions"


def started(request_id: str, **more: Any) -> RequestStarted:
    return RequestStarted(
        **{"request_id": request_id, "route": ROUTE, "model": "m", "stream": False, "key": "", **more}
    )


def called(request_id: str, **more: Any) -> AttemptStarted:
    return AttemptStarted(
        **{"request_id": request_id, "number": 1, "provider": "a", "model": "m", "group": "g", **more}
    )


def ended(request_id: str, **more: Any) -> AttemptFinished:
    usual = {
        "request_id": request_id, "provider": "a", "model": "m", "stream": False, "outcome": "ok", "duration_seconds": 0.0,
        "first_content_seconds": 0.0, "usage": None, "kind": "openai", "group": "g",
    }  # fmt: skip
    return AttemptFinished(**{**usual, **more})


def finished(request_id: str, **more: Any) -> RequestFinished:
    usual = {
        "request_id": request_id, "route": ROUTE, "stream": False, "status": 200, "outcome": "ok", "duration_seconds": 0.0,
        "provider": "a", "model": "m", "attempts": 1, "asked": "m", "group": "g",
    }  # fmt: skip
    return RequestFinished(**{**usual, **more})


def happen(bus: Bus, *events: Any) -> None:
    """Emit ``events`` as the task of one request does: in a context of its own."""

    def emit() -> None:
        for event in events:
            bus.emit(event)

    copy_context().run(emit)


def request(bus: Bus, request_id: str) -> None:
    """One request from its start to its end."""
    happen(bus, started(request_id), called(request_id), ended(request_id), finished(request_id))
