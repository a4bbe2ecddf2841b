"""A terminal with a program in it, by tmux: keys go in, and what is on the screen is read as a person reads it."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen

from tests.e2e.node import eventually

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
_COLUMNS, _ROWS = "150", "60"
_NUMBERS = itertools.count()
_ENDED = "the program has ended with"


@frozen
class Terminal:
    """One that runs; ``server`` is the socket of its tmux, ``prompt`` how the program's prompt looks when it waits."""

    server: Path
    prompt: str

    def type(self, text: str) -> None:
        """As at a keyboard."""
        self._tmux("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Keys by tmux' names: Enter, Tab, Up, C-c."""
        self._tmux("send-keys", *keys)

    def ready(self) -> None:
        """Wait for the prompt: what is typed before it is nobody's."""
        self.shows(rf"^{self.prompt} *(\n\s*\S.*)?\s*\Z")

    def enter(self, line: str) -> None:
        """At the prompt a line, and Enter."""
        self.ready()
        self.type(line)
        self.press("Enter")

    def screen(self) -> str:
        """What is seen now, and what has gone off its top."""
        return self._tmux("capture-pane", "-p", "-S", "-")

    def shows(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Wait until the screen has what ``pattern`` finds."""
        found: re.Match[str] = eventually(
            lambda: re.search(pattern, self.screen(), re.MULTILINE),
            lambda: f"{pattern!r} on the screen:\n{self.screen()}",
            seconds,
        )
        return found

    def ended(self) -> int:
        """Wait for the program's end; its exit code."""
        return int(self.shows(rf"{_ENDED} (\d+)")[1])

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self.server), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


@contextmanager
def terminal(folder: Path, command: Sequence[str], environment: Mapping[str, str], prompt: str) -> Iterator[Terminal]:
    """A terminal that runs ``command`` for the time of the block."""
    server = folder / f"tmux{next(_NUMBERS)}"  # one that ends may still hold its own
    shell = f"trap : INT; {shlex.join(command)}; echo {_ENDED} $?; exec sleep 600"
    variables = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
    start = ["tmux", "-S", str(server), "-f", "/dev/null", "new-session", "-d", "-x", _COLUMNS, "-y", _ROWS]
    subprocess.run([*start, *variables, "sh", "-c", shell], check=True, timeout=30)
    one = Terminal(server, prompt)
    try:
        yield one
    finally:
        print(one.screen())
        subprocess.run(["tmux", "-S", str(server), "kill-server"], check=False, capture_output=True, timeout=30)
