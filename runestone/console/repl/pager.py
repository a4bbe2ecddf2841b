"""Long answers go through the person's own pager, as in psql: ``$PAGER``, else ``less`` or ``more``; an empty one is none."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Final, Literal, get_args

Mode = Literal["on", "off", "auto"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
_LESS: Final = "FRX"  # end at once where all fits, show colours, leave it on the screen: as git has it


class Paper(io.StringIO):
    """What an answer is written on in the place of the terminal."""

    def isatty(self) -> bool:
        """It will be."""
        return True


@contextmanager
def written() -> Iterator[Paper]:
    """What is printed in the block is on the paper; it is lost to nobody, however the block ends."""
    paper = Paper()
    try:
        with redirect_stdout(paper):
            yield paper
    except BaseException:
        print(paper.getvalue(), end="", flush=True)
        raise


def show(text: str, mode: Mode) -> None:
    """By the pager if that is ``on``, or if it is ``auto`` and the screen has less lines; else, and where there is none, as it is."""
    long = text.count("\n") >= shutil.get_terminal_size().lines
    if not text or mode == "off" or (mode == "auto" and not long) or not _paged(text, _pager()):
        print(text, end="", flush=True)


def _pager() -> list[str]:
    chosen = os.environ.get("PAGER")
    if chosen is None:
        chosen = next((name for name in ("less", "more") if shutil.which(name)), "")
    try:
        return shlex.split(chosen)
    except ValueError:  # a quote without an end
        return []


def _paged(text: str, command: list[str]) -> bool:
    """Whether ``command`` has shown ``text``. Ctrl-C is the pager's."""
    if not command:
        return False
    try:
        pager = subprocess.Popen(  # noqa: S603 - the person's own choice
            command, stdin=subprocess.PIPE, text=True, encoding="utf-8", env={"LESS": _LESS, **os.environ}
        )
    except OSError as error:
        print(f"runestone: PAGER: {command[0]}: {error.strerror}", file=sys.stderr)
        return False
    assert pager.stdin is not None
    with suppress(BrokenPipeError, KeyboardInterrupt), pager.stdin:  # somebody has seen enough
        pager.stdin.write(text)
    while True:
        with suppress(KeyboardInterrupt):
            pager.wait()
            return True
