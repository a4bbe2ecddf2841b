"""The commands of ``runestone ctl``: one table, from which come the parser, the help and the requests."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from attrs import Factory, field, frozen

from runestone.console import bodies, output, render
from runestone.console.bodies import Values
from runestone.console.client import AdminClient
from runestone.console.options import common
from runestone.operations import ceilings
from runestone.operations.edits import EDITS

Live = Literal["providers", "groups", "actors", "requests"]
Renderer = Callable[[Mapping[str, Any]], str]
Offers = Callable[[Sequence[str]], Iterable[str]]


def nothing(_: Sequence[str]) -> Iterable[str]:
    """Nobody knows what may stand there."""
    return ()


@frozen(kw_only=True)
class Argument:
    """One argument of a command; one with a leading dash is an option. ``complete`` says which live names it takes.

    ``also``: what an option may be called too, which is understood and told nobody. ``offers``: what may stand behind those of its words
    that stand already, for who completes it; the node judges. ``most``: what the node refuses above, seconds for a time; its help tells.
    """

    name: str
    also: str | None = None
    help: str
    type: Callable[[str], Any] = str
    flag: bool = False
    nargs: str | None = None
    choices: tuple[str, ...] | None = None
    metavar: str | None = None
    required: bool = False
    append: bool = False  # may be given several times
    default: str | None = None
    const: Any = None  # what an option is without its value, where that may be left out (nargs "?")
    complete: Live | None = None
    offers: Offers = nothing
    most: float | None = None
    key: str = field()  # under which name its value is found

    @key.default
    def _own_name(self) -> str:
        return self.name.lstrip("-").replace("-", "_")

    @property
    def about(self) -> str:
        """Its help, with the most that it may be."""
        if self.most is None:
            return self.help
        return f"{self.help}; {bodies.told(self.most) if self.type is bodies.duration else f'{self.most:g}'} at most"


def fine(_: Mapping[str, Any]) -> int:
    """Every answer is good news."""
    return 0


def as_answered(_: AdminClient, data: dict[str, Any]) -> dict[str, Any]:
    """There is no more to tell."""
    return data


@frozen(kw_only=True)
class Command:
    """``path`` is what is typed, ``route`` what is asked; ``{name}`` in it stands for the argument of that name.

    ``body`` makes the request's body of the other arguments, or its query where it reads. The answer of a ``stream`` comes in lines, and
    ``render`` has them one by one. ``beside``: it is asked of the socket beside the admin socket, which answers while the loop is stuck.
    ``lasts``: seconds that the node may take before it answers, by the arguments. ``asks``: somebody at a terminal confirms it first.

    ``reads``: it may be asked again and again. ``acts``: it is on record and not for observers, as is all that calls a provider.
    ``good`` says of an answer whether ``--wait`` need not wait any more; an act names the command that reads it afterwards (``then``).
    """

    path: str
    method: str
    route: str
    help: str
    render: Renderer
    arguments: tuple[Argument, ...] = field(default=())
    body: Callable[[Values], dict[str, Any]] = bodies.as_given
    rows: output.Rows = output.rows  # what the answer is about, one by one
    verdict: Callable[[Mapping[str, Any]], int] = fine  # the exit code that an answer means
    good: Callable[[Mapping[str, Any]], bool] | None = None
    then: str | None = None
    reads: bool = field(default=Factory(lambda self: self.method == "GET", takes_self=True))
    acts: bool = field(default=Factory(lambda self: self.method != "GET", takes_self=True))
    asks: bool = False  # whether it is meant, on a terminal
    entries: str | None = None  # the answer's list, whose entries `--follow` prints as they come
    stream: bool = False
    beside: bool = False
    lasts: Callable[[Values], float] = bodies.at_once
    local: Callable[[Values], Mapping[str, Any] | None] = lambda _: None  # an answer for which no node is needed
    offline: str | None = None  # the argument with which that is so
    #: The answer to an act, with what it has led to.
    completed: Callable[[AdminClient, dict[str, Any]], dict[str, Any]] = as_answered
    into: str | None = None  # the argument that names the file for the lines of a ``stream``; "-" is standard output

    @property
    def well(self) -> Callable[[Mapping[str, Any]], bool] | None:
        """Whether an answer is good news, where it may be or not."""
        if self.good is not None or self.verdict is fine:
            return self.good
        return lambda data: self.verdict(data) == 0

    @property
    def refused(self) -> dict[str, str]:
        """Those of the options of every command that mean nothing to it, each with why. Its help leaves them out."""
        why = {}
        if self.stream or not self.reads:
            does = "goes on by itself" if self.stream else "acts"
            why["--watch"] = f"--watch reads again and again; {self.path} {does}"
        if self.reads and self.well is None:
            why["--wait"] = f"--wait: {self.path} tells nothing that could be well or not"
        if self.reads:
            why["--dry-run"] = f"--dry-run: {self.path} changes nothing anyway"
        elif f"{self.method} {self.route}" not in EDITS:
            why["--dry-run"] = f"--dry-run: {self.path} is no edit of the settings, so there is nothing to try"
        return why


_OUTCOME: Final = ("done", "failed", "needs_restart", "warnings", "changes", "learned")
PROVIDER = Argument(name="name", help="the provider, such as openai-default", complete="providers")
GROUP = Argument(name="name", help="the group, such as default-chat-service", complete="groups")


def at_most(count: int, key: str, of: str = "", most: float = ceilings.LISTED) -> Argument:
    """How many there may be in an answer, in all verbs that list; ``key`` is what the node calls that."""
    about = f"so many{of}, {count} without it"
    return Argument(name="-n", also="--last", key=key, help=about, type=int, metavar="N", most=most)


def so_long(about: str, most: float, *, required: bool = False) -> Argument:
    """For how long, in all verbs that end by themselves; more than ``most`` seconds are refused."""
    return Argument(
        name="--for", key="seconds", type=bodies.duration, metavar="TIME", help=about, most=most, required=required
    )


def plain(data: Mapping[str, Any]) -> str:
    """All facts of an answer."""
    return render.facts({key: value for key, value in data.items() if key != "v"})


def changed(kind: str) -> Renderer:
    """What was made or changed, and what was done for it."""

    def renderer(data: Mapping[str, Any]) -> str:
        about = data.get(kind)
        facts = (
            {key: value for key, value in about.items() if key not in _OUTCOME} if isinstance(about, Mapping) else {}
        )
        lines = [render.facts(facts)] if facts else []
        told = {**(about if isinstance(about, Mapping) else {}), **data}
        done = "would be done" if data.get("dry_run") else "done"
        lines += [f"{done}: {line}" for line in told.get("done", ())]
        lines += [_change(one) for one in told.get("changes", ())]
        are = "would be" if data.get("dry_run") else "are"
        lines += [f"{name}: its breaker and score {are} {how}" for name, how in told.get("learned", {}).items()]
        lines += [f"failed: {line}" for line in told.get("failed", ())]
        lines += [f"needs a restart of the process: {key}" for key in told.get("needs_restart", ())]
        lines += [f"warning: {line}" for line in told.get("warnings", ())]
        return "\n".join(lines) or "nothing to do"

    return renderer


def _change(one: Mapping[str, Any]) -> str:
    """One setting; of a secret only that it is another one."""
    before, after = render.cell(one["before"]), render.cell(one["after"])
    return f"{one['key']}: {before} -> {'another' if before == after else after}"


def add_to(parser: argparse.ArgumentParser, commands: Sequence[Command]) -> None:
    """Give ``parser`` a sub-command for each of ``commands``."""
    groups: dict[str, Any] = {"": parser.add_subparsers(title="commands", metavar="COMMAND", required=True)}
    verbs: dict[
        str, argparse.ArgumentParser
    ] = {}  # by their path: a verb may have further ones, such as `events export`
    for command in commands:
        *parents, verb = command.path.split()
        parent = " ".join(parents)
        if parent not in groups:
            group = verbs.get(parent) or groups[""].add_parser(parent, help=f"{parent} commands")
            groups[parent] = group.add_subparsers(
                title=f"{parent} commands", metavar="COMMAND", required=parent not in verbs
            )
        one = verbs[command.path] = groups[parent].add_parser(
            verb,
            help=_literal(command.help),
            description=_literal(command.help),
            parents=[common((argument.name for argument in command.arguments), command.refused)],
        )
        for argument in command.arguments:
            _add_argument(one, argument)
        one.set_defaults(command=command)


def _add_argument(parser: argparse.ArgumentParser, argument: Argument) -> None:
    if argument.flag:
        parser.add_argument(argument.name, help=_literal(argument.about), action="store_true")
        return
    options: dict[str, Any] = {"help": _literal(argument.about), "type": argument.type}
    if argument.name.startswith("-"):
        options |= {"required": argument.required, "dest": argument.key}
    for name in ("nargs", "choices", "metavar", "default", "const"):
        if (value := getattr(argument, name)) is not None:
            options[name] = value
    if argument.append:
        options["action"] = "append"
    parser.add_argument(argument.name, **options)
    if argument.also is not None:
        parser.add_argument(argument.also, **options | {"help": argparse.SUPPRESS, "default": argparse.SUPPRESS})


def _literal(text: str) -> str:
    """``text`` as argparse shows it unchanged: to it, a percent sign begins a name."""
    return text.replace("%", "%%")
