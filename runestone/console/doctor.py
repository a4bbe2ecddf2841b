"""The command that says what is wrong, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runestone.console.commands import Command

EX_UNHEALTHY = 4


def findings(data: Mapping[str, Any]) -> str:
    """Each finding with its command, and how many there are."""
    lines = []
    for one in data["findings"]:
        since = f" (since {one['since']})" if one["since"] else ""
        lines.append(f"{one['level'].upper():<8} {one['rule']}: {one['message']}{since}\n         {one['command']}")
    counts = ", ".join(f"{count} {level}" for level, count in data["counts"].items())
    return "\n".join((*lines, "", counts) if lines else ("nothing found",))


COMMANDS: tuple[Command, ...] = (
    Command(
        path="doctor",
        method="GET",
        route="/v1/doctor",
        help="what is wrong or may become so, each with the command that mends it; the exit code is 4 if an error is among it",
        render=findings,
        verdict=lambda data: 0 if data["healthy"] else EX_UNHEALTHY,
    ),
)
