"""All commands, of all parts."""

from __future__ import annotations

from typing import Final

from runestone.console import actors, costs, fleet, groups, node, service, settings, why
from runestone.console.commands import Command

COMMANDS: Final[tuple[Command, ...]] = (
    *node.COMMANDS,
    *fleet.COMMANDS,
    *groups.COMMANDS,
    *costs.COMMANDS,
    *settings.COMMANDS,
    *actors.COMMANDS,
    *service.COMMANDS,
    *why.COMMANDS,
)
