"""The commands about single actors: look at them, suspend, resume, restart and trace them, and where the tasks are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

from runestone.console import render
from runestone.console.bodies import watched
from runestone.console.client import AdminClient, Refused, Unreachable
from runestone.console.commands import Argument, Command, at_most, plain, so_long
from runestone.operations import ceilings

_SUCCESSION_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.02
ACTOR = Argument(
    name="name", metavar="ACTOR", help="a registered name, a path of the tree, or the end of one", complete="actors"
)
_TOP_COLUMNS = (
    "path",
    "state",
    "mailbox",
    "oldest_seconds",
    "messages_per_second",
    "busy_percent",
    "drops",
    "restarts",
    "incarnation",
)


def restarted(data: Mapping[str, Any]) -> str:
    """Which incarnation there was, and which there is."""
    now = data["incarnation"]
    after = "none yet; `runestone ctl tree` shows it when there is one" if now is None else now
    return f"{data['actor']}: incarnation {data['incarnation_before']} -> {after}"


def succeeded(client: AdminClient, data: dict[str, Any]) -> dict[str, Any]:
    """A crash, with the ``incarnation`` that serves after it; ``None`` where its supervisor takes its time."""
    route, end = f"/v1/actors/{quote(data['actor'], safe='')}", time.monotonic() + _SUCCESSION_SECONDS
    while time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        with suppress(Unreachable, Refused, TimeoutError):  # it may have taken more along than itself
            actor = client.within(_SUCCESSION_SECONDS).request("GET", route)["actor"]
            if actor["state"] == "running" and actor["incarnation"] != data["incarnation_before"]:
                return {**data, "incarnation": actor["incarnation"]}
    return {**data, "incarnation": None}


def _stacks(data: Mapping[str, Any]) -> str:
    blocks = [
        "\n".join((f"{one['task']} ({one['state']})", *(f"    {frame}" for frame in one["frames"])))
        for one in data["stacks"]
    ]
    left_out = data["chosen"] - len(blocks)
    return "\n".join([*blocks, f"{left_out} more are left out; choose with --task"] if left_out else blocks)


def _line(data: Mapping[str, Any]) -> str:
    """One line of a trace, for people."""
    if data["type"] == "end":
        dropped = f", {data['dropped']} dropped" if data["dropped"] else ""
        return f"over ({data['reason']}): {data['messages']} messages{dropped}"
    waited = "?" if data["waited_ms"] is None else f"{data['waited_ms']:.2f}"
    times = f"waited {waited:>8} ms  handled {data['handled_ms']:>8.2f} ms"
    return (
        f"{data['at']}  {data['kind']:4}  {data['message']:20}  {times}  {data['outcome']:10}  {data['sender'] or '-'}"
    )


COMMANDS: tuple[Command, ...] = (
    Command(
        path="actor show",
        method="GET",
        route="/v1/actors/{name}",
        help="one actor: state, mailbox, incarnation, last exit, what it tells of itself",
        arguments=(ACTOR,),
        render=lambda data: render.facts(data["actor"]),
        good=lambda data: data["actor"]["state"] == "running",
    ),
    Command(
        path="actor state",
        method="GET",
        route="/v1/actors/{name}/state",
        help="what one actor holds: shapes, numbers and names; other texts are left out",
        arguments=(ACTOR,),
        render=lambda data: render.outline(data["state"]),
    ),
    Command(
        path="actor suspend",
        method="POST",
        route="/v1/actors/{name}/suspend",
        help="let its messages wait; that ends by itself",
        arguments=(
            ACTOR,
            so_long("such as 60s, which it is without it", ceilings.SUSPENSION_SECONDS),
        ),
        render=plain,
    ),
    Command(
        path="actor resume",
        method="POST",
        route="/v1/actors/{name}/resume",
        help="end its suspension",
        arguments=(ACTOR,),
        render=plain,
        then="actor show",
    ),
    Command(
        path="actor restart",
        method="POST",
        route="/v1/actors/{name}/restart",
        help="restart it by its supervisor; that is no failure and costs nothing of the restart budget",
        arguments=(ACTOR,),
        render=restarted,
        then="actor show",
    ),
    Command(
        path="top",
        method="GET",
        route="/v1/actors",
        help="the actors with the most of something",
        arguments=(
            Argument(name="--sort", help="of what", choices=("mailbox", "busy", "rate", "restarts")),
            at_most(20, "n", most=ceilings.ACTORS),
            so_long("watch so long; 1s without it", ceilings.ACTIVITY_SECONDS),
        ),
        lasts=watched,
        render=lambda data: render.table(data["actors"], _TOP_COLUMNS),
    ),
    Command(
        path="trace",
        method="GET",
        route="/v1/actors/{name}/trace",
        help="follow the messages that one actor handles: types and times, no contents; ends by itself",
        arguments=(
            ACTOR,
            Argument(
                name="--max",
                type=int,
                metavar="N",
                required=True,
                help="end after so many messages",
                most=ceilings.TRACED_MESSAGES,
            ),
            so_long("end after so long", ceilings.TRACE_SECONDS, required=True),
        ),
        lasts=watched,
        render=_line,
        stream=True,
    ),
    Command(
        path="stacks",
        method="GET",
        route="/v1/stacks",
        help="where every task is, also while the event loop is stuck; places alone, no values",
        arguments=(Argument(name="--task", metavar="NAME", help="of this task; the name may hold a *"),),
        render=_stacks,
        rows=lambda data: data["stacks"],
        beside=True,
    ),
    Command(
        path="block",
        method="POST",
        route="/v1/block",
        help="hold the event loop up as a bug would (serve --allow-faults or --demo)",
        arguments=(so_long("so long; 1s without it", ceilings.BLOCK_SECONDS),),
        render=plain,
    ),
)
