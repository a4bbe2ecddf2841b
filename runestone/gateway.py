"""The one use case: a chat request in, an open call of some provider out."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from types import TracebackType

from attrs import define, field, frozen

from runestone.config.live import Live
from runestone.config.settings import TimeoutSettings
from runestone.costs.estimates import Estimates
from runestone.domain.chat import ChatRequest
from runestone.domain.errors import DeadlineExceeded, Draining, RunestoneError
from runestone.failover.attempts import Attempts
from runestone.load import Load
from runestone.providers import names
from runestone.telemetry.bus import Bus
from supervisors import Registry, Via


@define(slots=True, eq=False)
class Phase:
    """Whether the node takes requests, and the deadlines of those in flight. An operator and the node's end write it, everybody reads."""

    draining: bool = False
    cut: bool = False  # the drain has run out of patience
    retry_after_seconds: float = 1.0
    ends: asyncio.Event = field(factory=asyncio.Event)  # the drain is the beginning of the end
    _deadlines: dict[asyncio.Timeout, str] = field(factory=dict)  # with the route of each
    _idle: asyncio.Event = field(factory=asyncio.Event)

    @property
    def stopping(self) -> bool:
        """Whether nothing is taken any more, for good."""
        return self.ends.is_set()

    @property
    def in_flight(self) -> int:
        """Client requests that are being served."""
        return len(self._deadlines)

    def by_route(self) -> Counter[str]:
        """The same by their routes."""
        return Counter(self._deadlines.values())

    def request(self, deadline: float, route: str = "other") -> InFlight:
        """One request in flight, until ``deadline`` (loop time); a drain that has waited long enough brings that forward."""
        return InFlight(self, deadline, route)

    def began(self, deadline: asyncio.Timeout, route: str) -> None:
        """One more is in flight."""
        self._deadlines[deadline] = route

    def ended(self, deadline: asyncio.Timeout) -> None:
        """One less."""
        self._deadlines.pop(deadline, None)
        if not self._deadlines:
            self._idle.set()

    async def idle(self, seconds: float) -> bool:
        """Whether nothing is in flight, after ``seconds`` at the most. A drain that is taken back is waited for no longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._deadlines and self.draining:
                    self._idle.clear()
                    await self._idle.wait()
        return self.draining and not self._deadlines

    def drain(self) -> None:
        """Take nothing new from now on."""
        self.draining = True

    def undrain(self) -> None:
        """Take requests again."""
        self.draining = False
        self._idle.set()

    def cut_short(self) -> None:
        """End what is still in flight; each stream tells its client so."""
        self.cut = True
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            deadline.reschedule(now)

    def expired(self) -> RunestoneError:
        """What a request is told whose deadline has passed, or was brought forward."""
        if self.cut:
            return Draining("The gateway is shutting down and this answer took too long. Send the request again.")
        return DeadlineExceeded(
            "The request's deadline has passed; no provider answered in time. Try a smaller request, or again later."
        )


@define(slots=True, eq=False)
class Ending:
    """The end of the process: whoever wants it asks, whoever runs the node sees to it. ``seconds`` are for the drain."""

    asked: asyncio.Event = field(factory=asyncio.Event)
    drained: asyncio.Event = field(factory=asyncio.Event)  # the tree is about to stop
    seconds: float | None = None
    cut: int = 0  # requests that have outlasted the drain

    def ask(self, seconds: float) -> None:
        """Ask for the end, after a drain of ``seconds`` at most."""
        self.seconds = seconds
        self.asked.set()


class InFlight:
    """The time of one request: ``asyncio.timeout``, known to the phase while it runs."""

    __slots__ = ("_phase", "_route", "_timeout")

    def __init__(self, phase: Phase, deadline: float, route: str) -> None:
        self._phase = phase
        self._route = route
        self._timeout = asyncio.timeout_at(deadline)

    async def __aenter__(self) -> asyncio.Timeout:
        await self._timeout.__aenter__()
        self._phase.began(self._timeout, self._route)
        return self._timeout

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._phase.ended(self._timeout)
        await self._timeout.__aexit__(kind, error, trace)


@frozen
class Gateway:
    """What the front end asks. It holds no state of its own: the tree does."""

    live: Live
    phase: Phase
    load: Load
    requests: Via
    _failover: Via
    bus: Bus
    estimates: Estimates = field(factory=Estimates)

    @classmethod
    def over(cls, registry: Registry, live: Live, phase: Phase, load: Load, bus: Bus) -> Gateway:
        """The gateway over the processes registered in ``registry``."""
        return cls(live, phase, load, registry.via(names.REQUESTS), registry.via(names.FAILOVER), bus)

    @property
    def timeouts(self) -> TimeoutSettings:
        """Those in force."""
        return self.live.settings.timeouts

    def complete(self, chat: ChatRequest, deadline: float, *, trial: bool = False) -> Attempts:
        """The attempts of ``chat`` until ``deadline`` (loop time), as a context manager; its ``open`` calls upstream.

        ``trial``: one call alone, for an operator.
        """
        prices = self.live.settings.prices
        return Attempts(
            chat,
            self._failover,
            self.timeouts,
            self.bus,
            deadline=deadline,
            prices=prices,
            estimates=self.estimates,
            trial=trial,
        )
