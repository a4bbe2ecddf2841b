"""The commands about the node as a whole: how it is, what has happened, what it may be made to do."""

from __future__ import annotations

from runestone.console import bodies, render
from runestone.console.commands import Argument, Command, changed, plain

COMMANDS: tuple[Command, ...] = (
    Command(
        path="status",
        method="GET",
        route="/v1/status",
        help="the node on one screen, and what is wrong",
        render=render.status,
    ),
    Command(
        path="tree",
        method="GET",
        route="/v1/tree",
        help="the supervision tree, or a part of it",
        arguments=(
            Argument(name="path", nargs="?", help="what is under this actor alone"),
            Argument(name="--depth", type=int, metavar="N", help="so many levels of it"),
        ),
        render=lambda data: render.tree(data["tree"]),
    ),
    Command(
        path="health check",
        method="POST",
        route="/v1/health/{name}",
        help="ask providers, really and for free, whether they answer",
        arguments=(Argument(name="name", help="a provider, or all"),),
        render=lambda data: render.table(
            [{"provider": name, **found} for name, found in data["health"].items()],
            ("provider", "ok", "status", "seconds", "message"),
        ),
        verdict=lambda data: 0 if all(found["ok"] for found in data["health"].values()) else 4,
    ),
    Command(
        path="metrics",
        method="GET",
        route="/v1/metrics/{name}",
        help="calls and how they ended, latencies of the last minute, tokens, dollars",
        arguments=(Argument(name="name", help="a provider, or all", nargs="?", default="all"),),
        render=lambda data: render.metrics(data["metrics"]),
    ),
    Command(
        path="events",
        method="GET",
        route="/v1/events",
        help="what has happened, from the flight recorder",
        arguments=(
            Argument(name="--name", help="of these events, such as 'breaker.*'", metavar="PATTERN"),
            Argument(name="--provider", help="about this provider", metavar="NAME"),
            Argument(name="--request", help="about this request", metavar="ID"),
            Argument(name="--last", help="so many at most, 100 by default", type=int, metavar="N"),
            Argument(name="--since", help="those behind this number, the oldest first", type=int, metavar="SEQ"),
            Argument(name="--follow", help="go on with what comes, until Ctrl-C", flag=True),
        ),
        body=bodies.events,
        render=lambda data: "\n".join(map(render.event, data["events"])),
        entries="events",
    ),
    Command(
        path="log level",
        method="POST",
        route="/v1/log/level",
        help="from which level on there are lines, at once",
        arguments=(Argument(name="level", help="such as debug"),),
        render=changed("log"),
    ),
    Command(
        path="crash",
        method="POST",
        route="/v1/crash",
        help="crash one process of the tree as a bug would (serve --allow-faults or --demo)",
        arguments=(Argument(name="name", help="a registered name, a path of the tree, or the end of one"),),
        render=plain,
    ),
)
