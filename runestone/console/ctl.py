"""``runestone ctl``: one command to a running node, for people and scripts. Its exit codes are a contract."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from runestone.config.run_directory import admin_socket, stacks_socket
from runestone.console.bodies import Unusable, seconds
from runestone.console.client import AdminClient, Refused, Unreachable
from runestone.console.commands import Command, add_to
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


def add_parser(subparsers: Any) -> None:
    """Add ``ctl`` to the program's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser("ctl", help="ask or tell a running node")
    parser.add_argument("--socket", type=Path, help="the node's admin socket (RUNESTONE_ADMIN_SOCKET)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "--timeout",
        dest="patience",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for the answer",
    )
    add_to(parser, COMMANDS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command in ``arguments``; the result is the exit code."""
    command: Command = arguments.command
    path = arguments.socket or admin_socket()
    if command.beside:
        path = stacks_socket(path)
    values = {a.key: getattr(arguments, a.key) for a in command.arguments}
    in_route = {k: quote(v, safe="") or "%20" for k, v in values.items() if f"{{{k}}}" in command.route}
    try:
        given = {k: v for k, v in values.items() if k not in in_route and v is not None and v is not False}
        body = command.body(given)
    except Unusable as error:
        return _fail("usage", str(error), as_json=arguments.json)
    client, route = AdminClient(path, arguments.patience + command.lasts(given)), command.route.format(**in_route)
    try:
        return _tell(command, client, route, body, arguments)
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    except Unreachable as error:
        return _fail("denied" if error.denied else "unreachable", str(error), as_json=arguments.json)
    except TimeoutError:
        return _fail("timeout", f"no answer within {arguments.patience:g} s", as_json=arguments.json)
    except Refused as error:
        return _fail(error.code, str(error), as_json=arguments.json)


def _tell(
    command: Command, client: AdminClient, route: str, body: dict[str, Any], arguments: argparse.Namespace
) -> int:
    """Print the answer, or what comes until it ends or somebody has seen enough."""
    as_json: bool = arguments.json
    if command.entries is not None and arguments.follow:
        for entry in _entries(command.entries, command.method, client, route, body):
            print(json.dumps(entry) if as_json else command.render({command.entries: [entry]}), flush=True)
    elif command.into is not None and (path := getattr(arguments, command.into)) != "-":
        return _write(command, client.lines(command.method, route, body), path, as_json=as_json)
    elif command.stream:
        for line in client.lines(command.method, route, body):
            print(json.dumps(line) if as_json else command.render(line), flush=True)
    else:
        data = command.local({a.key: getattr(arguments, a.key) for a in command.arguments})
        if data is None:
            data = client.request(command.method, route, body)
        print(json.dumps(data) if as_json else command.render(data))
        return command.verdict(data)
    return 0


def _write(command: Command, lines: Iterator[dict[str, Any]], path: str, *, as_json: bool) -> int:
    """Put the answer's lines into a file, which is its owner's alone, and say how many there are."""
    written = 0
    try:
        with open(path, "w", encoding="utf-8", opener=_own) as file:
            for line in lines:
                file.write(command.render(line) + "\n")
                written += 1
    except OSError as error:
        return _fail("failed", f"{path}: {error.strerror}", as_json=as_json)
    print(json.dumps({"v": 1, "file": path, "lines": written}) if as_json else f"{written} lines in {path}")
    return 0


def _own(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _entries(name: str, method: str, client: AdminClient, route: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The answer's list ``name``, then what comes to it, for ever."""
    while True:
        data = client.request(method, route, body)
        if data["missed"]:
            print(f"runestone: {data['missed']} are gone from the memory", file=sys.stderr)
        yield from data[name]
        body = {**{k: v for k, v in body.items() if k != "limit"}, "since": data["next"]}
        if not data[name]:
            time.sleep(_FOLLOW_SECONDS)


def _fail(code: str, message: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"v": 1, "error": {"code": code, "message": message}}))
    print(f"runestone: {message}", file=sys.stderr)
    return EXIT_CODES.get(code, 1)
