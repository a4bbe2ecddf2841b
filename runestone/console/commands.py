"""The commands of ``runestone ctl``: one table, from which come the parser, the help and the requests."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from runestone.console import bodies, render
from runestone.console.bodies import Values, seconds
from runestone.domain.catalogue import KINDS
from runestone.ledger.report import BY, MOMENT

Renderer = Callable[[Mapping[str, Any]], str]


@frozen(kw_only=True)
class Argument:
    """One argument of a command; one with a leading dash is an option."""

    name: str
    help: str
    type: Callable[[str], Any] = str
    flag: bool = False
    nargs: str | None = None
    choices: tuple[str, ...] | None = None
    metavar: str | None = None
    required: bool = False
    append: bool = False  # may be given several times
    default: str | None = None
    key: str = field()  # under which name its value is found

    @key.default
    def _own_name(self) -> str:
        return self.name.lstrip("-").replace("-", "_")


@frozen(kw_only=True)
class Command:
    """``path`` is what is typed, ``route`` what is asked; ``{name}`` in it stands for the argument of that name.

    ``body`` makes the request's body of the other arguments, or its query where it reads. The answer of a ``stream`` comes in lines, and
    ``render`` has them one by one. ``beside``: it is asked of the socket beside the admin socket, which answers while the loop is stuck.
    """

    path: str
    method: str
    route: str
    help: str
    render: Renderer
    arguments: tuple[Argument, ...] = field(default=())
    body: Callable[[Values], dict[str, Any]] = bodies.as_given
    verdict: Callable[[Mapping[str, Any]], int] = lambda _: 0  # the exit code that an answer means
    entries: str | None = None  # the answer's list, whose entries `--follow` prints as they come
    stream: bool = False
    beside: bool = False


STRATEGIES = ("round_robin", "priority", "load_balanced", "fastest_first", "health_aware", "cost_optimized")
PROVIDER = Argument(name="name", help="the provider, such as openai-default")
GROUP = Argument(name="name", help="the group, such as default-chat-service")
_PROVIDER_COLUMNS = (
    "name",
    "kind",
    "status",
    "health_score",
    "in_flight",
    "waiting",
    "calls",
    "failures",
    "incarnation",
    "base_url",
)
_BREAKER_COLUMNS = ("provider", "state", "mode", "consecutive_failures", "failure_threshold", "retry_in_seconds")
_GROUP_COLUMNS = ("name", "strategy", "members", "max_attempts", "health_threshold", "mode")
_PROVIDER_OPTIONS = (
    Argument(name="--base-url", help="where it is, with the version: https://host/v1", metavar="URL"),
    Argument(name="--default-model", help="the model that it serves when another one was asked for", metavar="MODEL"),
    Argument(name="--models", help="further models that it serves, with commas between them", metavar="A,B"),
    Argument(name="--timeout", help="of one attempt: milliseconds, or such as 120s", metavar="TIME"),
    Argument(name="--retry-attempts", help="attempts at it for one request", type=int, metavar="N"),
    Argument(name="--max-concurrency", help="calls that may be out at once", type=int, metavar="N"),
    Argument(name="--adaptive-concurrency", help="whether 429 and 529 lower that", choices=("true", "false")),
    Argument(name="--max-queue", help="requests that may wait for a call to end", type=int, metavar="N"),
    Argument(name="--queue-timeout", help="how long they wait: milliseconds, or such as 5s", metavar="TIME"),
    Argument(name="--circuit-breaker", help="whether its breaker may refuse", choices=("true", "false")),
    Argument(name="--telemetry", help="whether it is counted by name", choices=("true", "false")),
    Argument(name="--probe-interval", help="0 for never; milliseconds, or such as 30s", metavar="TIME"),
    Argument(name="--key-env", help="the variable of this command that holds its API key", metavar="VARIABLE"),
    Argument(name="--key-file", help="the file that holds its API key", metavar="PATH"),
    Argument(name="--key-stdin", help="read its API key from standard input", flag=True),
)
_GROUP_OPTIONS = (
    Argument(name="--strategy", help="who goes first", choices=STRATEGIES),
    Argument(name="--max-attempts", help="providers tried for one request", type=int, metavar="N"),
    Argument(name="--health-threshold", help="out below this score, 0 to 1", type=float, metavar="SCORE"),
    Argument(name="--weight", help="a share, such as openai-default=2; may be repeated", append=True, metavar="NAME=N"),
    Argument(name="--mode", help="legacy: no failover in this group", choices=("enhanced", "legacy")),
)


def _plain(data: Mapping[str, Any]) -> str:
    return render.facts({key: value for key, value in data.items() if key != "v"})


def _changed(kind: str) -> Renderer:
    """What was made or changed, and what was done for it."""

    def renderer(data: Mapping[str, Any]) -> str:
        about = data.get(kind)
        lines = [render.facts(about)] if isinstance(about, Mapping) else []
        told = {**(about if isinstance(about, Mapping) else {}), **data}
        lines += [f"done: {line}" for line in told.get("done", ())]
        lines += [f"needs a restart of the process: {key}" for key in told.get("needs_restart", ())]
        lines += [f"warning: {line}" for line in told.get("warnings", ())]
        return "\n".join(lines) or "nothing to do"

    return renderer


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
        path="providers",
        method="GET",
        route="/v1/providers",
        help="all providers and how they are",
        render=lambda data: render.table(data["providers"], _PROVIDER_COLUMNS),
    ),
    Command(
        path="provider show",
        method="GET",
        route="/v1/providers/{name}",
        help="one provider, with its last success and error",
        arguments=(PROVIDER,),
        render=lambda data: render.facts(data["provider"]),
    ),
    Command(
        path="provider add",
        method="POST",
        route="/v1/providers",
        help="register a provider; its key comes from a variable, a file or standard input",
        arguments=(
            PROVIDER,
            Argument(name="--kind", help="whose wire it speaks", choices=KINDS, required=True),
            *_PROVIDER_OPTIONS,
        ),
        body=bodies.new_provider,
        render=_changed("provider"),
    ),
    Command(
        path="provider set",
        method="POST",
        route="/v1/providers/{name}",
        help="change settings of a provider; its actor is restarted, its streams run on",
        arguments=(PROVIDER, *_PROVIDER_OPTIONS),
        body=bodies.provider_config,
        render=_changed("provider"),
    ),
    Command(
        path="provider remove",
        method="POST",
        route="/v1/providers/{name}/remove",
        help="take a provider out; returns when its streams have ended",
        arguments=(PROVIDER,),
        render=_changed("provider"),
    ),
    Command(
        path="provider restart",
        method="POST",
        route="/v1/providers/{name}/restart",
        help="a clean slate for one provider; its streams run on",
        arguments=(
            PROVIDER,
            Argument(
                name="--hard", help="replace its connections too; the old ones close with their last stream", flag=True
            ),
        ),
        render=_plain,
    ),
    Command(
        path="breaker show",
        method="GET",
        route="/v1/breakers/{name}",
        help="one provider's circuit breaker",
        arguments=(PROVIDER,),
        render=lambda data: render.facts(data["breaker"]),
    ),
    Command(
        path="breaker list",
        method="GET",
        route="/v1/breakers",
        help="all circuit breakers",
        render=lambda data: render.table(data["breakers"], _BREAKER_COLUMNS),
    ),
    Command(
        path="breaker reset",
        method="POST",
        route="/v1/breakers/{name}/reset",
        help="close it, clear its counters, lift what was forced",
        arguments=(PROVIDER,),
        render=lambda data: render.facts(data["breaker"]),
    ),
    Command(
        path="breaker trip",
        method="POST",
        route="/v1/breakers/{name}/trip",
        help="force it open",
        arguments=(
            PROVIDER,
            Argument(name="--seconds", help="for so long; without it, until it is reset", type=seconds),
        ),
        render=lambda data: render.facts(data["breaker"]),
    ),
    Command(
        path="breaker set",
        method="POST",
        route="/v1/breakers/{name}",
        help="tune a breaker; for a provider that is not there yet it is kept",
        arguments=(
            PROVIDER,
            Argument(name="--failure-threshold", help="failures in a row that open it", type=int, metavar="N"),
            Argument(
                name="--recovery-timeout", help="until it is tried again: milliseconds, or such as 60s", metavar="TIME"
            ),
            Argument(name="--half-open-limit", help="probes out at once", type=int, metavar="N"),
            Argument(name="--slow-first-token", help="later is slow: milliseconds, or such as 10s", metavar="TIME"),
        ),
        body=bodies.config,
        render=_changed("breaker"),
    ),
    Command(
        path="group list",
        method="GET",
        route="/v1/groups",
        help="all failover groups",
        render=lambda data: render.table(data["groups"], _GROUP_COLUMNS),
    ),
    Command(
        path="group create",
        method="POST",
        route="/v1/groups",
        help="make a failover group",
        arguments=(
            GROUP,
            Argument(name="--members", help="its providers, with commas between them", metavar="A,B", required=True),
            *_GROUP_OPTIONS,
        ),
        body=bodies.new_group,
        render=_changed("group"),
    ),
    Command(
        path="group set",
        method="POST",
        route="/v1/groups/{name}",
        help="change a group's members or options",
        arguments=(
            GROUP,
            Argument(name="--members", help="its providers, with commas between them", metavar="A,B"),
            *_GROUP_OPTIONS,
        ),
        body=bodies.group,
        render=_changed("group"),
    ),
    Command(
        path="group delete",
        method="POST",
        route="/v1/groups/{name}/delete",
        help="take a group away",
        arguments=(GROUP,),
        render=_changed("group"),
    ),
    Command(
        path="failover set-strategy",
        method="POST",
        route="/v1/groups/{name}",
        help="change who goes first in a group",
        arguments=(GROUP, Argument(name="strategy", help="the strategy", choices=STRATEGIES)),
        body=bodies.group,
        render=_changed("group"),
    ),
    Command(
        path="failover explain",
        method="POST",
        route="/v1/failover/{name}/explain",
        help="who would be asked for a model, who would not, and why",
        arguments=(GROUP, Argument(name="--model", help="the model", required=True)),
        render=lambda data: render.explanation(data["explanation"]),
    ),
    Command(
        path="mode",
        method="POST",
        route="/v1/mode",
        help="legacy: no failover, the guide's rollback; enhanced: everything",
        arguments=(
            Argument(name="mode", help="the mode", choices=("enhanced", "legacy")),
            Argument(name="--group", help="for one group alone"),
        ),
        render=_changed("mode"),
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
        render=_changed("log"),
    ),
    Command(
        path="cost estimate",
        method="POST",
        route="/v1/costs/estimate",
        help="an estimate of what a request would cost at each provider",
        arguments=(Argument(name="--request", help="the file with its JSON, - for standard input", required=True),),
        body=bodies.request,
        render=lambda data: render.facts(data["costs"]),
    ),
    Command(
        path="cost show",
        method="GET",
        route="/v1/costs",
        help="what upstream calls have used and cost, by the ledger",
        arguments=(
            Argument(name="--since", help=f"from when on; without it 24h: {MOMENT}", metavar="TIME"),
            Argument(name="--until", help="until when; without it now", metavar="TIME"),
            Argument(name="--by", help="what is added up; without it by provider", choices=BY),
        ),
        render=render.costs,
    ),
    Command(
        path="cost prune",
        method="POST",
        route="/v1/costs/prune",
        help="forget the calls that ended before a time",
        arguments=(Argument(name="--before", help=MOMENT, metavar="TIME", required=True),),
        render=_plain,
    ),
    Command(
        path="config show",
        method="GET",
        route="/v1/config",
        help="every setting in force, and where it comes from",
        render=lambda data: render.table(data["settings"], ("key", "value", "origin")),
    ),
    Command(
        path="config diff",
        method="GET",
        route="/v1/config/diff",
        help="what was changed at run time",
        render=lambda data: render.table(data["changes"], ("key", "value")),
    ),
    Command(
        path="config export",
        method="GET",
        route="/v1/config/export",
        help="what was changed at run time, as a piece of runestone.toml",
        render=lambda data: str(data["toml"]).rstrip("\n"),
    ),
    Command(
        path="config reload",
        method="POST",
        route="/v1/config/reload",
        help="read the file and the variables again; refused whole if anything is wrong",
        render=_changed("config"),
    ),
    Command(
        path="failover show",
        method="GET",
        route="/v1/failover/{name}",
        help="a failover group: strategy, members, statistics",
        arguments=(GROUP,),
        render=lambda data: render.facts(data["failover"]),
    ),
    Command(
        path="fault",
        method="POST",
        route="/v1/providers/{name}/fault",
        help="switch a fault of a simulated provider (serve --demo only), such as '503 30%', 'cut at=1234' or 'none'",
        arguments=(PROVIDER, Argument(name="spec", help="the fault", nargs="+")),
        render=_plain,
    ),
    Command(
        path="crash",
        method="POST",
        route="/v1/crash",
        help="crash one process of the tree as a bug would (serve --allow-faults or --demo)",
        arguments=(Argument(name="name", help="its registered name, such as failover or provider:openai-default"),),
        render=_plain,
    ),
)


def add_to(parser: argparse.ArgumentParser, commands: Sequence[Command]) -> None:
    """Give ``parser`` a sub-command for each of ``commands``."""
    groups: dict[str, Any] = {"": parser.add_subparsers(title="commands", metavar="COMMAND", required=True)}
    for command in commands:
        *parents, verb = command.path.split()
        parent = " ".join(parents)
        if parent not in groups:
            group = groups[""].add_parser(parent, help=f"{parent} commands")
            groups[parent] = group.add_subparsers(title=f"{parent} commands", metavar="COMMAND", required=True)
        one = groups[parent].add_parser(verb, help=command.help, description=command.help)
        for argument in command.arguments:
            _add_argument(one, argument)
        one.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object on standard output"
        )
        one.set_defaults(command=command)


def _add_argument(parser: argparse.ArgumentParser, argument: Argument) -> None:
    if argument.flag:
        parser.add_argument(argument.name, help=argument.help, action="store_true")
        return
    options: dict[str, Any] = {"help": argument.help, "type": argument.type}
    if argument.name.startswith("-"):
        options |= {"required": argument.required, "dest": argument.key}
    for name in ("nargs", "choices", "metavar", "default"):
        if (value := getattr(argument, name)) is not None:
            options[name] = value
    if argument.append:
        options["action"] = "append"
    parser.add_argument(argument.name, **options)
