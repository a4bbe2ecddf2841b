"""The one use case: a chat request in, an open call of some provider out."""

from __future__ import annotations

import asyncio

from attrs import define, field, frozen

from runestone.config.settings import TimeoutSettings
from runestone.domain.chat import ChatRequest
from runestone.domain.errors import DeadlineExceeded, Draining, RunestoneError
from runestone.failover.attempts import Attempts
from runestone.providers import names
from runestone.telemetry.bus import Bus
from supervisors import Registry, Via


@define(slots=True, eq=False)
class Phase:
    """Whether the node takes requests. Written by the node's drain alone, read by everybody.

    ``deadlines`` are those of the requests in flight: a drain that has waited long enough brings them forward.
    """

    draining: bool = False
    cut: bool = False  # the drain has run out of patience
    retry_after_seconds: float = 1.0
    deadlines: set[asyncio.Timeout] = field(factory=set)

    def cut_short(self) -> None:
        """End what is still in flight; each stream tells its client so."""
        self.cut = True
        now = asyncio.get_running_loop().time()
        for deadline in self.deadlines:
            deadline.reschedule(now)

    def expired(self) -> RunestoneError:
        """What a request is told whose deadline has passed, or was brought forward."""
        if self.cut:
            return Draining("The gateway is shutting down and this answer took too long. Send the request again.")
        return DeadlineExceeded(
            "The request's deadline has passed; no provider answered in time. Try a smaller request, or again later."
        )


@frozen
class Gateway:
    """What the front end asks. It holds no state of its own: the tree does."""

    timeouts: TimeoutSettings
    phase: Phase
    requests: Via
    _failover: Via
    _bus: Bus

    @classmethod
    def over(cls, registry: Registry, timeouts: TimeoutSettings, phase: Phase, bus: Bus) -> Gateway:
        """The gateway over the processes registered in ``registry``."""
        return cls(timeouts, phase, registry.via(names.REQUESTS), registry.via(names.FAILOVER), bus)

    def complete(self, chat: ChatRequest, deadline: float) -> Attempts:
        """The attempts of ``chat`` until ``deadline`` (loop time), as a context manager; its ``open`` calls upstream."""
        return Attempts(chat, self._failover, self.timeouts, self._bus, deadline)
