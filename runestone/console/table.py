"""All commands, of all parts."""

from __future__ import annotations

from typing import Final

from runestone.console import actors, costs, doctor, fleet, groups, limits, logs, node, requests, service, settings, why
from runestone.console.commands import Command

COMMANDS: Final[tuple[Command, ...]] = (
    *node.COMMANDS,
    *fleet.COMMANDS,
    *groups.COMMANDS,
    *costs.COMMANDS,
    *settings.COMMANDS,
    *actors.COMMANDS,
    *doctor.COMMANDS,
    *requests.COMMANDS,
    *logs.COMMANDS,
    *limits.COMMANDS,
    *service.COMMANDS,
    *why.COMMANDS,
)
