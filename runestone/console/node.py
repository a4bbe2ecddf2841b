"""The commands about the node as a whole: how it is, what has happened, what it may be made to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runestone.console import bodies, output, render
from runestone.console.actors import ACTOR, restarted, succeeded
from runestone.console.commands import Argument, Command, at_most, changed, so_long
from runestone.operations import ceilings


def _levels(_: Sequence[str]) -> Iterable[str]:
    from runestone.config.document import LEVELS  # noqa: PLC0415 - it takes a moment to load, and only completion needs it

    return map(str.lower, LEVELS)


COMMANDS: tuple[Command, ...] = (
    Command(
        path="status",
        method="GET",
        route="/v1/status",
        help="the node on one screen, and what is wrong",
        render=render.status,
        good=lambda data: data["status"] == "healthy",
    ),
    Command(
        path="tree",
        method="GET",
        route="/v1/tree",
        help="the supervision tree, or a part of it",
        arguments=(
            Argument(name="path", nargs="?", help="what is under this actor alone", complete="actors"),
            Argument(name="--depth", type=int, metavar="N", help="so many levels of it", most=ceilings.LEVELS_OF_TREE),
        ),
        render=lambda data: render.tree(data["tree"]),
    ),
    Command(
        path="health check",
        method="POST",
        route="/v1/health/{name}",
        help="ask providers, really and for free, whether they answer",
        arguments=(Argument(name="name", help="a provider, or all", complete="providers"),),
        render=lambda data: render.table(
            [{"provider": name, **found} for name, found in data["health"].items()],
            ("provider", "ok", "status", "seconds", "message"),
        ),
        reads=True,
        verdict=lambda data: 0 if all(found["ok"] for found in data["health"].values()) else 4,
    ),
    Command(
        path="metrics",
        method="GET",
        route="/v1/metrics/{name}",
        help="calls and how they ended, latencies of the last minute, tokens, dollars",
        arguments=(
            Argument(name="name", help="a provider, or all", nargs="?", default="all", complete="providers"),
            Argument(name="--prom", help="as Prometheus scrapes them", flag=True),
        ),
        render=lambda data: (
            data["prometheus"].rstrip("\n") if "prometheus" in data else render.metrics(data["metrics"])
        ),
        rows=lambda data: (
            [{"name": name, **found} for name, found in data.get("metrics", {}).get("providers", {}).items()]
            or output.rows(data)
        ),
    ),
    *(
        Command(
            path=path,
            method="GET",
            route="/v1/events",
            help="what has happened, from the flight recorder",
            arguments=(
                Argument(name="--name", help="of these events, such as 'breaker.*'", metavar="PATTERN"),
                Argument(name="--provider", help="about this provider", metavar="NAME", complete="providers"),
                Argument(name="--request", help="about this request", metavar="ID", complete="requests"),
                at_most(100, "limit"),
                Argument(name="--since", help="those behind this number, the oldest first", type=int, metavar="SEQ"),
                Argument(name="--follow", help="go on with what comes, until Ctrl-C", flag=True),
            ),
            body=bodies.events,
            render=lambda data: "\n".join(map(render.event, data["events"])),
            entries="events",
        )
        for path in ("events", "events tail")
    ),
    Command(
        path="log level",
        method="POST",
        route="/v1/log/level",
        help="from which level on there are lines, at once",
        arguments=(
            Argument(name="level", help="such as debug", offers=_levels),
            so_long("for so long, such as 10m", ceilings.LOG_LEVEL_SECONDS),
        ),
        render=changed("log"),
    ),
    Command(
        path="eval",
        method="POST",
        route="/v1/eval",
        help="run Python in the node (serve --unsafe-eval): node, fleet, providers, registry, settings, asyncio are there; 5s at most",
        arguments=(
            Argument(name="code", metavar="CODE", help="in quotes, such as 'len(providers)'; await is allowed"),
        ),
        render=lambda data: (data["printed"] + (data["value"] or "")).rstrip("\n"),
    ),
    Command(
        path="crash",
        method="POST",
        route="/v1/crash",
        help="crash one process of the tree as a bug would (serve --allow-faults or --demo)",
        arguments=(ACTOR,),
        render=restarted,
        completed=succeeded,
    ),
)
