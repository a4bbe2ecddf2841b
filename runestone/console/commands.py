"""The commands of ``runestone ctl``: one table, from which come the parser, the help and the requests."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

from runestone.console import render

Renderer = Callable[[Mapping[str, Any]], str]


@frozen(kw_only=True)
class Argument:
    """One argument of a command; one with a leading dash is an option."""

    name: str
    help: str
    type: Callable[[str], Any] = str
    flag: bool = False
    nargs: str | None = None


@frozen(kw_only=True)
class Command:
    """``path`` is what is typed, ``route`` what is asked; ``{name}`` in it stands for the argument of that name."""

    path: str
    method: str
    route: str
    help: str
    render: Renderer
    arguments: tuple[Argument, ...] = field(default=())


PROVIDER = Argument(name="name", help="the provider, such as openai-default")
_PROVIDER_COLUMNS = (
    "name",
    "kind",
    "status",
    "health_score",
    "in_flight",
    "calls",
    "failures",
    "incarnation",
    "base_url",
)
_BREAKER_COLUMNS = ("provider", "state", "mode", "consecutive_failures", "failure_threshold", "retry_in_seconds")


def seconds(text: str) -> float:
    """Seconds above 0. Raises ``ValueError``, which argparse turns into a usage error."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def _plain(data: Mapping[str, Any]) -> str:
    return render.facts({key: value for key, value in data.items() if key != "v"})


COMMANDS: tuple[Command, ...] = (
    Command(path="status", method="GET", route="/v1/status", help="the node on one screen", render=_plain),
    Command(
        path="tree",
        method="GET",
        route="/v1/tree",
        help="the supervision tree",
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
        path="failover show",
        method="GET",
        route="/v1/failover/{name}",
        help="a failover group: strategy, members, statistics",
        arguments=(Argument(name="name", help="the group, such as default-chat-service"),),
        render=lambda data: render.facts(data["failover"]),
    ),
    Command(
        path="fault",
        method="POST",
        route="/v1/providers/{name}/fault",
        help="switch a fault of a simulated provider (serve --demo only), such as 'status=503 times=5' or 'none'",
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


def add_to(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` a sub-command for each command of the table."""
    groups: dict[str, Any] = {"": parser.add_subparsers(title="commands", metavar="COMMAND", required=True)}
    for command in COMMANDS:
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
    elif argument.nargs is not None:
        parser.add_argument(argument.name, help=argument.help, type=argument.type, nargs=argument.nargs)
    else:
        parser.add_argument(argument.name, help=argument.help, type=argument.type)
