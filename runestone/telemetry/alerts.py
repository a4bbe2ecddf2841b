"""What is wrong, and since when: conditions come and go, an alert remembers when its condition was first seen. Nothing here has a clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from attrs import field, frozen

Severity = Literal["error", "warning"]
_ORDER: Final[dict[Severity, int]] = {"error": 0, "warning": 1}


@frozen(kw_only=True)
class Condition:
    """Something that is wrong now.

    ``kind`` is a word for programs, ``about`` what it is about (a provider, a group, a part of the node), ``message`` a sentence,
    ``command`` what helps, or shows more. ``since`` is epoch seconds, where somebody knows better than who looks.
    """

    kind: str
    about: str
    severity: Severity
    message: str
    command: str
    since: float | None = None


@frozen(kw_only=True)
class Alert:
    """A condition, and since when (epoch seconds) it lasts."""

    condition: Condition
    since: float

    def as_data(self) -> dict[str, str]:
        """As plain data."""
        condition = self.condition
        return {
            "kind": condition.kind,
            "severity": condition.severity,
            "about": condition.about,
            "message": condition.message,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since)),
            "command": condition.command,
        }


@frozen
class Alerts:
    """The alerts as of the last look, the worst and then the oldest first."""

    alerts: tuple[Alert, ...] = ()
    _since: Mapping[tuple[str, str], float] = field(factory=dict)  # by kind and what it is about

    def observe(self, conditions: Iterable[Condition], now: float) -> Alerts:
        """One look at ``now`` (epoch seconds). A condition that is gone is forgotten: when it comes back, it is a new one."""
        alerts = [
            Alert(condition=c, since=self._since.get((c.kind, c.about), now) if c.since is None else c.since)
            for c in conditions
        ]
        alerts.sort(key=lambda alert: (_ORDER[alert.condition.severity], alert.since, alert.condition.about))
        return Alerts(tuple(alerts), {(a.condition.kind, a.condition.about): a.since for a in alerts})
