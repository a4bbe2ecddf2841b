"""All commands, of all parts."""

from __future__ import annotations

from typing import Final

from runestone.console import actors, commands
from runestone.console.commands import Command

COMMANDS: Final[tuple[Command, ...]] = (*commands.COMMANDS, *actors.COMMANDS)
