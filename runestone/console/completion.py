"""Completion at a shell's prompt, by argcomplete: at each Tab the shell asks this program, which asks the node for its names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from runestone.config.run_directory import admin_socket
from runestone.console.commands import Argument, Live
from runestone.console.repl.names import live_names
from runestone.console.repl.vocabulary import PATHS, commands_of

_MISSING = "runestone: completion needs argcomplete: pip install 'runestone[console]'"


@frozen
class LiveNames:
    """Completes the names of one kind, as argcomplete asks for them."""

    kind: Live

    def __call__(self, *, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        """All of them, of the node that the words before name."""
        socket: Path = getattr(parsed_args, "socket", None) or admin_socket()
        return live_names(self.kind, socket)


@frozen
class Words:
    """Completes what ``argument`` offers behind those of its words that stand already."""

    argument: Argument

    def __call__(self, *, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        """All of it."""
        said = getattr(parsed_args, self.argument.key, None)
        return list(self.argument.offers(said if isinstance(said, list) else ()))


def run(shell: str) -> int:
    """``runestone completion``: print what ``shell`` must read; the exit code."""
    try:
        from argcomplete.shell_integration import shellcode  # noqa: PLC0415 - it is an extra
    except ModuleNotFoundError:
        print(_MISSING, file=sys.stderr)
        return 1
    print(shellcode(["runestone"], use_defaults=False, shell=shell))  # files where nothing fits would be a guess
    return 0


def answer(parser: argparse.ArgumentParser) -> None:
    """Tell the shell what may come next, and end the process; return where that cannot be told."""
    try:
        from argcomplete import autocomplete  # noqa: PLC0415 - it is an extra
        from argcomplete.completers import FilesCompleter, SuppressCompleter  # noqa: PLC0415 - likewise
    except ModuleNotFoundError:
        return
    for command, actions in commands_of(parser):
        known = {argument.key: argument for argument in command.arguments}
        for action in actions:
            if (argument := known.get(action.dest)) is not None and action.choices is None and action.nargs != 0:
                completer = Words(argument) if argument.complete is None else LiveNames(argument.complete)
                action.completer = completer  # type: ignore[attr-defined] # the place that argcomplete has chosen
    for action in _actions(parser):
        if action.type is Path or action.metavar in PATHS:
            action.completer = FilesCompleter()  # type: ignore[attr-defined] # likewise
    autocomplete(parser, always_complete_options=False, default_completer=SuppressCompleter())


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse lists them nowhere else
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            for sub in action.choices.values():
                yield from _actions(sub)
