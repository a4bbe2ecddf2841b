"""The migration guide's ten boxes, in its order and words, and how one is tried."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import frozen

from runestone.api import OperationError
from runestone.check import serving, watching
from runestone.check.site import Site, Unticked

_SECONDS: Final = 60.0  # for one box


@frozen
class Box:
    """``name`` is for scripts, ``title`` the guide's. ``check`` tells what it has seen, or raises :class:`Unticked`.

    ``staged``: it needs the throw-away providers.
    """

    name: str
    title: str
    check: Callable[[Site], Awaitable[str]]
    staged: bool = True


BOXES: Final = (
    Box("endpoints", "All API endpoints respond correctly", serving.endpoints),
    Box("failover", "Failover works when providers are unavailable", serving.failover),
    Box("breakers", "Circuit breakers activate on repeated failures", serving.breakers),
    Box("health", "Health endpoints return expected data", watching.health, staged=False),
    Box("metrics", "Metrics are being collected", watching.metrics, staged=False),
    Box("costs", "Cost estimation is working", watching.costs),
    Box("performance", "Performance meets requirements", watching.performance),
    Box("errors", "Error handling is working correctly", serving.errors),
    Box("telemetry", "Telemetry data is being emitted", watching.telemetry, staged=False),
    Box("legacy", "Legacy compatibility is maintained", serving.legacy),
)


@frozen(kw_only=True)
class Found:
    """A box that was tried. ``command`` helps where it is not ticked."""

    box: Box
    ok: bool
    detail: str
    seconds: float
    command: str | None = None

    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "box": self.box.name,
            "title": self.box.title,
            "ok": self.ok,
            "detail": self.detail,
            "seconds": round(self.seconds, 3),
            "command": self.command,
        }


async def tried(box: Box, site: Site, unstaged: str | None = None) -> Found:
    """Try ``box``. ``unstaged``: why there are no throw-away providers.

    Raises :class:`OperationError` ``unreachable``: the node is gone; ``denied``: this socket does not let anything be tried.
    """
    started, command = time.perf_counter(), None
    ok = False
    if box.staged and unstaged is not None:
        return Found(box=box, ok=False, detail=unstaged, seconds=0.0, command="runestone ctl status")
    try:
        async with asyncio.timeout(_SECONDS):
            detail, ok = await box.check(site), True
    except Unticked as error:
        detail, command = str(error), error.command
    except TimeoutError:
        detail, command = f"it was not over within {_SECONDS:g} s", "runestone ctl status"
    except OperationError as error:
        if error.reason in ("unreachable", "denied"):
            raise
        detail, command = f"{error.reason}: {error}", "runestone ctl status"
    return Found(box=box, ok=ok, detail=detail, seconds=time.perf_counter() - started, command=command)
