"""How a child is started, stopped and restarted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from attrs import field, frozen

Restart = Literal["permanent", "transient", "temporary"]
Shutdown = float | Literal["brutal_kill", "infinity"]


@frozen(kw_only=True)
class ChildSpec:
    """``start`` builds a new behaviour for each incarnation; a restart never meets an old object."""

    id: str
    start: Callable[[], Any]
    restart: Restart = "permanent"
    type: Literal["worker", "supervisor"] = "worker"
    shutdown: Shutdown = field()
    name: str | None = None
    start_timeout: float | None = None

    @shutdown.default
    def _shutdown_default(self) -> Shutdown:
        return "infinity" if self.type == "supervisor" else 5.0
