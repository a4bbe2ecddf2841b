"""The prober: looks after a provider that nobody calls, by questions that cost nothing.

It asks while the provider is idle or its breaker is open, never while it is in maintenance, leaving, throttled or quarantined; one that
is drained is looked after still. Its questions are no calls: they take no lease and move no breaker, throttle or quarantine. A provider
that takes no connection twice in a row has a score of 0, so that others go first, until it takes one again or a call shows otherwise.
What it answers is for people: a refused key is told, and the call that meets it decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from attrs import frozen
from loguru import logger

from runestone.config.settings import ProviderSettings
from runestone.providers.memory import Ending, ProviderMemory
from runestone.providers.probe import Probe, probe
from runestone.providers.transport import Transport
from runestone.resilience.probing import Probing
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import ProbeFinished
from supervisors import Address, Cast, GenServer, Info, Timer

_AFTER_A_CRASH_SECONDS: Final = 2.0  # so that a bug in here can never bring its supervisor to give up


@frozen
class Probed(Cast):
    """A probe is over. ``transport`` is what it was sent over, ``sent`` when."""

    probe: Probe
    transport: Transport
    sent: float


@frozen
class _Look(Info):
    """Time to look whether a probe is due."""


class Prober(GenServer[Probed]):
    """One per provider, beside its actor. What it knows is in the memory, so that a crash forgets nothing."""

    def __init__(self, memory: ProviderMemory, bus: Bus, chance: Callable[[], float]) -> None:
        self._memory = memory
        self._bus = bus
        self._chance = chance
        self._timer: Timer | None = None

    def init(self) -> None:
        """Set the first timer; nothing is known, and nothing asked, where probes are off."""
        memory, interval = self._memory, self._interval
        if not interval:
            memory.probing, memory.last_probe = Probing(), None
            return
        memory.probing = memory.probing.start(self.now(), interval, self._chance())
        self._look_in(max(self._wait(), _AFTER_A_CRASH_SECONDS if self.incarnation > 1 else 0.0))

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        return {"interval": self._interval, "last": self._memory.probing.outcome}

    def handle_info(self, message: Info) -> None:
        """Send a probe if one is due."""
        if not isinstance(message, _Look):
            return
        transport = self._memory.transport
        if transport is None or self._excluded():
            self._look_in(self._interval)
        elif (wait := self._wait()) > 0:
            self._look_in(wait)
        else:
            settings, lists_models = self._memory.settings, self._memory.probing.lists_models
            asked = _ask(self._memory, settings, transport, self.ref, self.now(), lists_models=lists_models)
            self.spawn(asked, name="probe")

    def handle_cast(self, message: Probed) -> None:
        """Learn from a probe. One over connections that have been replaced meanwhile says nothing."""
        if self._memory.transport is message.transport:
            self._learn(message.probe, message.sent)
            self._look_in(self._wait())
        else:
            self._look_in(self._interval)

    # -- within --------------------------------------------------------------------------------------------------------

    @property
    def _interval(self) -> float:
        return self._memory.settings.probe_interval_seconds

    def _excluded(self) -> bool:
        """Whether it must not be asked: an operator works at it, it is leaving, or has said itself that it will not serve."""
        memory, now = self._memory, self.now()
        out = (memory.throttle.retry_after(now), memory.quarantine.retry_after(None, now))
        return memory.leaving or memory.admin_state == "maintenance" or out != (None, None)

    def _wait(self) -> float:
        memory, now = self._memory, self.now()
        return memory.probing.wait(
            now,
            interval=self._interval,
            last_call=memory.last_call,
            busy=bool(memory.leases),
            refused=memory.breaker.name(now) == "open",
        )

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.send_after(seconds, _Look())

    def _learn(self, probe: Probe, sent: float) -> None:
        memory, before = self._memory, self._memory.probing
        memory.probing = before.note(
            probe.outcome,
            self.now(),
            sent=sent,
            last_call=memory.last_call,
            interval=self._interval,
            chance=self._chance(),
            lists_models=probe.lists_models,
        )
        memory.last_probe = Ending(at=time.time(), what=f"{probe.outcome}: {probe.message}")
        if memory.settings.telemetry:
            self._bus.emit(ProbeFinished(provider=memory.name, outcome=probe.outcome, seconds=probe.seconds))
        if before.outcome != probe.outcome:
            _tell(memory.name, probe, first=before.outcome is None)


async def _ask(
    memory: ProviderMemory,
    settings: ProviderSettings,
    transport: Transport,
    prober: Address,
    sent: float,
    *,
    lists_models: bool,
) -> None:
    found = await probe(settings, memory.looked_at_over(transport), lists_models=lists_models)
    prober.cast(Probed(found, transport, sent))


def _tell(name: str, probe: Probe, *, first: bool) -> None:
    if probe.outcome == "credentials":
        logger.error("alert: a probe of {}: {}", name, probe.message)
    elif probe.ok:
        logger.log("DEBUG" if first else "INFO", "a probe of {}: {}", name, probe.message)
    else:
        logger.warning("a probe of {}: {}: {}", name, probe.outcome, probe.message)
