"""Completion at a shell's prompt, by argcomplete: at each Tab the shell asks this program, which asks the node for its names."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from attrs import frozen

from runestone.config.run_directory import admin_socket
from runestone.console.commands import Live
from runestone.console.repl.names import live_names
from runestone.console.repl.vocabulary import commands_of

_MISSING = "runestone: completion needs argcomplete: pip install 'runestone[console]'"


@frozen
class LiveNames:
    """Completes the names of one kind, as argcomplete asks for them."""

    kind: Live

    def __call__(self, *, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        """All of them, of the node that the words before name."""
        socket: Path = getattr(parsed_args, "socket", None) or admin_socket()
        return live_names(self.kind, socket)


def run(shell: str) -> int:
    """``runestone completion``: print what ``shell`` must read; the exit code."""
    try:
        from argcomplete.shell_integration import shellcode  # noqa: PLC0415 - it is an extra
    except ModuleNotFoundError:
        print(_MISSING, file=sys.stderr)
        return 1
    print(shellcode(["runestone"], shell=shell))
    return 0


def answer(parser: argparse.ArgumentParser) -> None:
    """Tell the shell what may come next, and end the process; return where that cannot be told."""
    try:
        from argcomplete import autocomplete  # noqa: PLC0415 - it is an extra
    except ModuleNotFoundError:
        return
    for command, actions in commands_of(parser):
        kinds = {argument.key: argument.complete for argument in command.arguments}
        for action in actions:
            if (kind := kinds.get(action.dest)) is not None:
                action.completer = LiveNames(kind)  # type: ignore[attr-defined] # the place that argcomplete has chosen
    autocomplete(parser, always_complete_options=False)
