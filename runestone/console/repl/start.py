"""How a console begins: for a person at a terminal, for one line of commands, or for lines from a pipe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from runestone.config.run_directory import admin_socket
from runestone.console.repl.link import Link
from runestone.console.repl.session import Left, Session

_NOT_INSTALLED: Final = 1


def run(arguments: argparse.Namespace) -> int:
    """``runestone console``; the exit code."""
    socket: Path = arguments.socket or admin_socket()
    if arguments.commands is not None:
        return _carry_out(socket, [arguments.commands], read_only=arguments.read_only)
    if not sys.stdin.isatty():
        return _carry_out(socket, sys.stdin, read_only=arguments.read_only)
    try:
        from runestone.console.repl import prompt  # noqa: PLC0415 - what it needs is an extra
    except ModuleNotFoundError as error:
        print(f"runestone: the console needs {error.name}: pip install 'runestone[console]'", file=sys.stderr)
        return _NOT_INSTALLED
    return prompt.converse(socket, read_only=arguments.read_only)


def _carry_out(socket: Path, lines: Iterable[str], *, read_only: bool) -> int:
    """Line by line, up to the first that fails."""
    session = Session(Link(socket), interactive=False, read_only=read_only)
    try:
        for line in lines:
            if code := session.run(line):
                return code
    except Left:
        return 0
    return 0
