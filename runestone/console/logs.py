"""The commands about the node's log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from runestone.console import bodies, render
from runestone.console.commands import Argument, Command, at_most

_SHOWN = 50  # without a number
_HEAD = ("seq", "ts", "level", "logger", "event", "trace")


def wanted(values: bodies.Values) -> dict[str, Any]:
    """Which lines are wanted; those behind a number come whole."""
    given = bodies.events(values)
    return given if "since" in given else {"limit": _SHOWN, **given}


def line(data: Mapping[str, Any]) -> str:
    """One line, as a terminal would have shown it."""
    at = datetime.fromisoformat(data["ts"]).astimezone()
    more = {key: value for key, value in data.items() if key not in _HEAD and value not in (None, "")}
    told = " ".join((str(data["event"]), *(f"{key}={render.cell(value)}" for key, value in more.items())))
    text = f"{at:%H:%M:%S}.{at.microsecond // 1000:03} {data['level']:<7} {data['logger']}: {told}"
    return "\n  ".join((text, *str(data.get("trace") or "").replace("\\n", "\n").splitlines()))


COMMANDS: tuple[Command, ...] = (
    Command(
        path="logs tail",
        method="GET",
        route="/v1/log/lines",
        help="the last lines of the log, from memory; what the log's level leaves out is not there",
        arguments=(
            Argument(
                name="--level",
                help="of this level and graver ones",
                choices=("debug", "info", "warning", "error", "critical"),
            ),
            Argument(name="--request", help="about this request", metavar="ID", complete="requests"),
            Argument(
                name="--logger", help="of this logger and those below it, such as runestone.access", metavar="NAME"
            ),
            at_most(_SHOWN, "limit"),
            Argument(name="--since", help="those behind this number, the oldest first", type=int, metavar="SEQ"),
            Argument(name="--follow", help="go on with what comes, until Ctrl-C", flag=True),
        ),
        body=wanted,
        render=lambda data: "\n".join(map(line, data["lines"])),
        entries="lines",
    ),
)
