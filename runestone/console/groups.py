"""The commands about failover groups: who is in them, who goes first, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runestone.console import bodies, render
from runestone.console.commands import GROUP, Argument, Command, changed

_STRATEGIES = ("round_robin", "priority", "load_balanced", "fastest_first", "health_aware", "cost_optimized")
_COLUMNS = ("name", "strategy", "members", "max_attempts", "health_threshold", "mode")
_MEMBERS = ("name", "status", "health_score", "share", "p50_ms", "p95_ms", "p99_ms")
_OPTIONS = (
    Argument(name="--strategy", help="who goes first", choices=_STRATEGIES),
    Argument(name="--max-attempts", help="providers tried for one request", type=int, metavar="N"),
    Argument(name="--health-threshold", help="out below this score, 0 to 1", type=float, metavar="SCORE"),
    Argument(
        name="--weight",
        help="a share for load_balanced, such as openai-default=2; may be repeated",
        append=True,
        metavar="NAME=N",
    ),
    Argument(name="--mode", help="legacy: no failover in this group", choices=("enhanced", "legacy")),
)
_PROVIDERS = Argument(name="providers", metavar="PROVIDER", nargs="+", help="a provider", complete="providers")


def _standing(data: Mapping[str, Any]) -> str:
    """A group, and below it each member and how it is."""
    told = data["failover"]
    rows = [
        {
            **member,
            **{f"{p}_ms": value for p, value in member["latency_ms"].items()},
            "share": told["share"].get(member["name"], 0),
        }
        for member in told["members"]
    ]
    facts = render.facts({key: value for key, value in told.items() if key not in ("members", "share")})
    return f"{facts}\n\n{render.table(rows, _MEMBERS)}"


COMMANDS: tuple[Command, ...] = (
    Command(
        path="group list",
        method="GET",
        route="/v1/groups",
        help="all failover groups",
        render=lambda data: render.table(data["groups"], _COLUMNS),
    ),
    Command(
        path="group create",
        method="POST",
        route="/v1/groups",
        help="make a failover group",
        arguments=(
            GROUP,
            Argument(name="--members", help="its providers, with commas between them", metavar="A,B", required=True),
            *_OPTIONS,
        ),
        body=bodies.new_group,
        render=changed("group"),
    ),
    Command(
        path="group set",
        method="POST",
        route="/v1/groups/{name}",
        help="change a group's members or options",
        arguments=(
            GROUP,
            Argument(name="--members", help="its providers, with commas between them", metavar="A,B"),
            *_OPTIONS,
        ),
        body=bodies.changed_group,
        render=changed("group"),
    ),
    Command(
        path="group add",
        method="POST",
        route="/v1/groups/{name}/add",
        help="take providers into a group",
        arguments=(GROUP, _PROVIDERS),
        body=bodies.members,
        render=changed("group"),
    ),
    Command(
        path="group remove",
        method="POST",
        route="/v1/groups/{name}/remove",
        help="take providers out of a group, but for the last one",
        arguments=(GROUP, _PROVIDERS),
        body=bodies.members,
        render=changed("group"),
    ),
    Command(
        path="group delete",
        method="POST",
        route="/v1/groups/{name}/delete",
        help="take a group away",
        arguments=(GROUP,),
        render=changed("group"),
    ),
    Command(
        path="failover show",
        method="GET",
        route="/v1/failover/{name}",
        help="a failover group: strategy, members, statistics",
        arguments=(GROUP,),
        render=_standing,
        good=lambda data: all(member["status"] == "up" for member in data["failover"]["members"]),
    ),
    Command(
        path="failover set-strategy",
        method="POST",
        route="/v1/groups/{name}",
        help="change who goes first in a group",
        arguments=(GROUP, Argument(name="strategy", help="the strategy", choices=_STRATEGIES)),
        body=bodies.group,
        render=changed("group"),
    ),
    Command(
        path="failover explain",
        method="GET",
        route="/v1/failover/{name}/explain",
        help="who would be asked for a model, who would not, and why",
        arguments=(GROUP, Argument(name="--model", help="the model", required=True)),
        render=lambda data: render.explanation(data["explanation"]),
        rows=lambda data: data["explanation"]["candidates"],
    ),
    Command(
        path="mode",
        method="POST",
        route="/v1/mode",
        help="legacy: no failover, the guide's rollback; enhanced: everything",
        arguments=(
            Argument(name="mode", help="the mode", choices=("enhanced", "legacy")),
            Argument(name="--group", help="for one group alone", complete="groups"),
        ),
        render=changed("mode"),
    ),
)
