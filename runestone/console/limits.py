"""The command about limits: how much of each is in use, and what was refused for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runestone.console import render
from runestone.console.commands import Command

_PROVIDERS = ("name", "in_flight", "limit", "adaptive", "waiting", "queue", "headroom", "throttled_seconds")
_REFUSED = {
    "requests": "max_requests, or more than a share of them",
    "connections": "max_connections",
    "lateness": "a loop later than max_loop_lag_ms",
    "queue": "the queue at the door",
}


def _limits(data: Mapping[str, Any]) -> str:
    """A table of the providers, one of the node, and what was refused since it began, by what for."""
    node = data["node"]
    rows = [{"node": what, **node[what]} for what in ("requests", "connections", "descriptors") if node[what]]
    shed = render.table(
        [{"refused": count, "for": _REFUSED[cause]} for cause, count in node["shed"].items()], ("refused", "for")
    )
    share = f"refused now for lateness: {node['refused_share']:.0%} of the requests"
    tables = (render.table(data["providers"], _PROVIDERS), render.table(rows, ("node", "in_use", "limit")))
    return "\n\n".join((*tables, shed, *([share] if node["refused_share"] else [])))


COMMANDS: tuple[Command, ...] = (
    Command(
        path="limits",
        method="GET",
        route="/v1/limits",
        help="what of each limit is in use, of providers and of the node; who waits, and what was refused",
        render=_limits,
    ),
)
