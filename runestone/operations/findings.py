"""What the doctor finds: one thing, how grave it is, and what helps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

from attrs import frozen

from runestone.operations.snapshot import ProviderSight, Snapshot

Level = Literal["error", "warning", "info"]
LEVELS: Final[tuple[Level, ...]] = ("error", "warning", "info")


@frozen(kw_only=True)
class Finding:
    """One thing: the rule that found it, how grave it is, what it is about, a sentence, what helps, and since when (epoch seconds)."""

    rule: str
    level: Level
    about: str
    message: str
    command: str
    since: float | None = None

    def as_data(self) -> dict[str, Any]:
        """As plain data."""
        since = None if self.since is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since))
        return {
            "rule": self.rule,
            "level": self.level,
            "about": self.about,
            "message": self.message,
            "since": since,
            "command": self.command,
        }


Rule = Callable[[Snapshot], Iterator[Finding]]


def about(provider: ProviderSight, rule: str, level: Level, message: str, command: str) -> Finding:
    """One about a provider; ``command`` is one of ``runestone ctl``."""
    return Finding(rule=rule, level=level, about=provider.name, message=message, command=f"runestone ctl {command}")


def of_settings(rule: str, level: Level, message: str, command: str) -> Finding:
    """One about how the node is set up."""
    return Finding(rule=rule, level=level, about="settings", message=message, command=command)
