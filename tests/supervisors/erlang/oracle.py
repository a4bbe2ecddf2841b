"""A running Erlang that plays scenarios: the terms it is sent, the lines it answers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

OLDEST = 24  # the first release with significant children

needs_erlang = pytest.mark.skipif(
    shutil.which("erl") is None or shutil.which("erlc") is None, reason="Erlang (erl, erlc) is not installed"
)


def term(value: Any) -> str:
    """``value`` as an Erlang term: text is an atom, an attrs object a tuple that begins with the name of its class."""
    match value:
        case bool() | int():
            text = str(value).lower()
        case str():
            text = f"'{value}'"
        case dict():
            text = f"#{{{', '.join(f'{term(key)} => {term(each)}' for key, each in value.items())}}}"
        case list():
            text = f"[{', '.join(map(term, value))}]"
        case tuple():
            text = f"{{{', '.join(map(term, value))}}}"
        case _:
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(value).__name__).lower()
            text = term((name, *(getattr(value, field.name) for field in attrs.fields(type(value)))))
    return text


class Oracle:
    """One Erlang, which plays one scenario after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.release = int(self._line())

    def play(self, scenario: Any) -> list[str]:
        """What happened, line by line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{term(scenario)}.\n")
        self._process.stdin.flush()
        return list(iter(self._line, "."))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "Erlang has ended"
        return line.rstrip("\n")


@contextmanager
def oracle(directory: Path) -> Iterator[Oracle]:
    """Compile the modules into ``directory`` and run it; skips the test where Erlang is too old."""
    sources = sorted(Path(__file__).parent.glob("*.erl"))
    subprocess.run(["erlc", "-Werror", "-o", directory, *sources], check=True)
    command = ["erl", "+S", "1", "-noshell", "-pa", str(directory), "-s", "oracle", "main"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            running = Oracle(process)
            if running.release < OLDEST:
                pytest.skip(f"Erlang/OTP {running.release} is older than {OLDEST}")
            yield running
        finally:
            process.kill()
