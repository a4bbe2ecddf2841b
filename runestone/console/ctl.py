"""``runestone ctl``: one command to a running node, for people and scripts. Its exit codes are a contract."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from attrs import evolve, frozen

from runestone.config.run_directory import admin_socket, observe_socket, stacks_socket
from runestone.console import output
from runestone.console.bodies import Unusable
from runestone.console.client import AdminClient, Refused, Unreachable
from runestone.console.commands import Command, add_to
from runestone.console.options import Usage, add_common
from runestone.console.repl.names import live_names
from runestone.console.table import COMMANDS

EX_INTERRUPTED: Final = 130
EXIT_CODES: Final = {
    "usage": 2,
    "not_found": 3,
    "missing_providers": 3,
    "conflict": 5,
    "timeout": 6,
    "unreachable": 69,
    "denied": 77,
    "invalid": 78,
}
_FOLLOW_SECONDS: Final = 0.5
_WAIT_SECONDS: Final = 0.2  # from one look to the next
_CLEAR: Final = "\x1b[H\x1b[2J"
_LOST_FOR_NOW: Final = frozenset({"unavailable", "timeout"})


@frozen(kw_only=True)
class Order:
    """One command with its arguments, as it is asked of the node, and how its answer is wanted."""

    command: Command
    client: AdminClient
    route: str
    body: dict[str, Any]
    values: Mapping[str, Any]
    form: str
    header: bool
    quiet: bool
    patience: float

    @property
    def as_json(self) -> bool:
        """Whether a program reads the answer."""
        return self.form in ("json", "ndjson")

    def ask(self) -> dict[str, Any]:
        """The answer; some need no node."""
        local = self.command.local(self.values)
        return self.client.request(self.command.method, self.route, self.body) if local is None else dict(local)

    def text(self, data: Mapping[str, Any]) -> str:
        """An answer, or one line of it, as it is wanted."""
        rows, render = self.command.rows, self.command.render
        return output.told(data, self.form, as_text=render, as_rows=rows, header=self.header)


def add_parser(subparsers: Any) -> None:
    """Add ``ctl`` to the program's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser("ctl", help="ask or tell a running node")
    parser.add_argument("--socket", type=Path, help="the node's admin socket (RUNESTONE_ADMIN_SOCKET)")
    add_common(parser)
    add_to(parser, COMMANDS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command in ``arguments``; the result is the exit code."""
    tell = partial(fail, as_json=arguments.json or arguments.output in ("json", "ndjson"))
    try:
        order = _order(arguments)
        code = _carry_out(order, arguments) if _meant(order, arguments) else tell("refused", "nothing was done")
    except Unusable as error:
        code = tell("usage", str(error))
    except KeyboardInterrupt:
        code = EX_INTERRUPTED
    except Unreachable as error:
        code = tell("denied" if error.denied else "unreachable", str(error))
    except TimeoutError as error:
        code = tell("timeout", str(error))
    except Refused as error:
        code = tell(error.code, str(error), hint=_hint(arguments, error), problems=error.problems)
    return code


def misused(error: Usage, *, as_json: bool) -> int:
    """Tell of words that make no command; the result is the exit code."""
    print(error.usage, end="", file=sys.stderr)
    return fail("usage", str(error), as_json=as_json, hint=error.hint)


def fail(code: str, message: str, *, as_json: bool, hint: str | None = None, problems: tuple[str, ...] = ()) -> int:
    """Tell what is wrong: on standard error, and to programs on standard output too. The result is the exit code.

    A key may have been typed into the wrong place: it is not told.
    """
    from runestone.telemetry.logs import masked  # noqa: PLC0415 - it takes a while to load

    message = "\n".join(map(masked, message.splitlines()))
    if as_json:
        more = ({"hint": hint} if hint else {}) | ({"problems": list(problems)} if problems else {})
        print(json.dumps({"v": 1, "error": {"code": code, "message": message, **more}}))
    lines = [f"runestone: {message}", *([hint] if hint is not None and hint[:-1] not in message else [])]
    print("\n".join(lines), file=sys.stderr)
    return EXIT_CODES.get(code, 1)


def _order(arguments: argparse.Namespace) -> Order:
    command: Command = arguments.command
    _check(command, arguments)
    values = {a.key: getattr(arguments, a.key) for a in command.arguments}
    in_route = {k: quote(v, safe="") or "%20" for k, v in values.items() if f"{{{k}}}" in command.route}
    given = {k: v for k, v in values.items() if k not in in_route and v is not None and v is not False}
    admin = arguments.socket or admin_socket()
    if command.beside and admin == observe_socket(admin.with_name("admin.sock")):
        raise Unreachable(f"{admin} is for observers; {command.path} is for the admin socket beside it", denied=True)
    path = _socket(command, admin)
    about = {"reason": arguments.reason, "dry_run": "true" if arguments.dry_run else None}
    client = AdminClient(
        path,
        arguments.patience + command.lasts(given),
        {key: text for key, text in about.items() if text is not None},
    )
    return Order(
        command=command,
        client=client,
        route=command.route.format(**in_route),
        body=command.body(given),
        values=values,
        form="json" if arguments.json else arguments.output,
        header=not arguments.no_header,
        quiet=arguments.quiet,
        patience=arguments.patience,
    )


def _socket(command: Command, admin: Path) -> Path:
    """Where to ask: whoever may not use the admin socket may still look by the one for observers."""
    if command.beside:
        return stacks_socket(admin)
    beside = observe_socket(admin)
    observes = not command.acts and not os.access(admin, os.W_OK) and os.access(beside, os.W_OK)
    return beside if observes else admin


def _check(command: Command, arguments: argparse.Namespace) -> None:
    """Whether the options mean something for ``command``. Raises :class:`Unusable`."""
    given = {
        "--watch": arguments.watch is not None,
        "--wait": arguments.wait is not None,
        "--dry-run": arguments.dry_run,
    }
    for option, why in command.refused.items():
        if given[option]:
            raise Unusable(why)
    if given["--watch"] and command.entries is not None and arguments.follow:
        raise Unusable(f"--watch reads again and again; {command.path} --follow goes on by itself")
    if given["--watch"] and given["--wait"]:
        raise Unusable("one of --watch and --wait")


def _meant(order: Order, arguments: argparse.Namespace) -> bool:
    """Ask, where somebody sits who can answer."""
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if not order.command.asks or arguments.yes or arguments.dry_run or not on_terminal:
        return True
    words = (order.command.path, *(str(order.values[a.key]) for a in order.command.arguments if a.complete))
    print(f"{' '.join(words)}: is that meant? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _carry_out(order: Order, arguments: argparse.Namespace) -> int:
    """Print the answer, or what comes until it ends or somebody has seen enough."""
    command = order.command
    if command.into is not None and (path := order.values[command.into]) != "-":
        return _write(order, path)
    if command.entries is not None and arguments.follow:
        for entry in _entries(order, command.entries):
            print(order.text(entry if order.as_json else {command.entries: [entry]}), flush=True)
        return 0
    if command.stream:
        for line in order.client.lines(command.method, order.route, order.body):
            print(order.text(line), flush=True)
        return 0
    return _once(order, arguments) if arguments.watch is None else _watch(order, arguments.watch)


def _once(order: Order, arguments: argparse.Namespace) -> int:
    command = order.command
    data = _waited(order, arguments.wait) if command.reads and arguments.wait is not None else _answered(order)
    data = command.completed(order.client, data)
    after = None if command.reads or arguments.wait is None or arguments.dry_run else _afterwards(order)
    if after is not None:
        _waited(after, arguments.wait)
    if command.reads or not order.quiet:
        _say(order.text(data))
    return command.verdict(data)


def _write(order: Order, path: str) -> int:
    """Put the answer's lines into a file, which is its owner's alone, and say how many there are."""
    written = 0
    try:
        with open(path, "w", encoding="utf-8", opener=_own) as file:
            for line in order.client.lines(order.command.method, order.route, order.body):
                file.write(order.command.render(line) + "\n")
                written += 1
    except OSError as error:
        return fail("failed", f"{path}: {error.strerror}", as_json=order.as_json)
    if not order.quiet:
        print(json.dumps({"v": 1, "file": path, "lines": written}) if order.as_json else f"{written} lines in {path}")
    return 0


def _own(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _answered(order: Order) -> dict[str, Any]:
    try:
        return order.ask()
    except TimeoutError:
        raise TimeoutError(f"no answer within {order.patience:g} s") from None


def _say(text: str) -> None:
    if text:
        print(text, flush=True)


def _watch(order: Order, seconds: float) -> int:
    """A block for each look, until Ctrl-C; a terminal shows the last one alone."""
    redrawn, first = sys.stdout.isatty() and not order.as_json, True
    while True:
        text = order.text(_answered(order))
        _say(_CLEAR + text if redrawn else text if first or order.as_json else f"\n{text}")
        first = False
        time.sleep(seconds)


def _waited(order: Order, seconds: float) -> dict[str, Any]:
    """The first good answer. Raises ``TimeoutError`` where there is none for ``seconds``."""
    end, why = time.monotonic() + seconds, ""
    good = order.command.well or (lambda _: True)
    while (left := end - time.monotonic()) > 0:
        client = order.client.within(min(order.patience, left))
        try:
            data = evolve(order, client=client).ask()
        except Unreachable as error:
            if error.denied:
                raise
            why = f": {error}"
        except Refused as error:
            if error.code not in _LOST_FOR_NOW:
                raise
            why = f": {error}"
        except TimeoutError:
            why = ": no answer"
        else:
            if good(data):
                return data
            why = ""
        time.sleep(max(0.0, min(_WAIT_SECONDS, end - time.monotonic())))
    raise TimeoutError(f"{order.command.path}: it is not well after {seconds:g} s{why}")


def _afterwards(order: Order) -> Order | None:
    """What is read of what ``order`` has changed."""
    then = next((one for one in COMMANDS if one.path == order.command.then), None)
    if then is None:
        return None
    names = {key: quote(str(value), safe="") for key, value in order.values.items()}
    return evolve(order, command=then, route=then.route.format(**names), body={})


def _entries(order: Order, name: str) -> Iterator[dict[str, Any]]:
    """The answer's list ``name``, then what comes to it, for ever."""
    while True:
        data = _answered(order)
        if data["missed"] and not order.quiet:
            print(f"runestone: {data['missed']} are gone from the memory", file=sys.stderr)
        yield from data[name]
        order = evolve(order, body={**{k: v for k, v in order.body.items() if k != "limit"}, "since": data["next"]})
        if not data[name]:
            time.sleep(_FOLLOW_SECONDS)


def _hint(arguments: argparse.Namespace, error: Refused) -> str | None:
    """What may have been meant by a name that is not there, or how a key is given."""
    if error.code == "missing_api_key":
        return "give its key by one of --key-env VARIABLE, --key-file PATH, --key-stdin"
    if error.code not in ("not_found", "missing_providers"):
        return None
    for argument in arguments.command.arguments:
        given = getattr(arguments, argument.key)
        if argument.complete is None or given is None:
            continue
        there = live_names(argument.complete, arguments.socket or admin_socket())
        for name in [given] if isinstance(given, str) else given:
            if name not in there and (close := get_close_matches(name, there, 1)):
                return f"did you mean {close[0]}?"
    return None
