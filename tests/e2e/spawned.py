"""Processes as somebody at a terminal has them: on one of its own, or interrupted with Ctrl-C."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from attrs import define, field


@define
class Screen:
    """A process on a terminal of its own, whose other end this is."""

    process: subprocess.Popen[bytes]
    _end: int
    _seen: str = field(default="", init=False)

    def expect(self, pattern: str, seconds: float = 30.0) -> None:
        """Wait until it has written what ``pattern`` finds, behind what was found before."""
        until = time.monotonic() + seconds
        while (found := re.search(pattern, self._seen)) is None:
            if not self._more(until):
                raise AssertionError(f"never {pattern!r} in {self._seen!r}")
        self._seen = self._seen[found.end() :]

    def send(self, keys: str) -> None:
        """As at a keyboard."""
        os.write(self._end, keys.encode())

    def ended(self, seconds: float = 30.0) -> int:
        """Wait for its end: its exit code."""
        until = time.monotonic() + seconds
        while self._more(until):
            pass
        return self.process.wait(seconds)

    def _more(self, until: float) -> bool:
        ready, _, _ = select.select([self._end], [], [], max(until - time.monotonic(), 0.0))
        try:
            data = os.read(self._end, 65536) if ready else b""
        except OSError:  # on Linux a terminal that nobody has open any more
            data = b""
        self._seen += data.decode()
        return bool(data)


@contextmanager
def terminal(command: Sequence[str]) -> Iterator[Screen]:
    """``command`` on a terminal for the time of the block."""
    end, its = os.openpty()
    with _with_interrupts():
        process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, preexec_fn=_take_terminal)  # noqa: PLW1509 - there are no threads
    os.close(its)
    try:
        yield Screen(process, end)
    finally:
        process.kill()
        process.wait()
        os.close(end)


def _take_terminal() -> None:
    """In the child: standard input is the terminal that its Ctrl-C comes from."""
    os.setsid()
    os.close(os.open(os.ttyname(0), os.O_RDWR))


@define
class Interruptible:
    """A running process that takes Ctrl-C, whatever the tests themselves make of it."""

    process: subprocess.Popen[str]

    @property
    def stdout(self) -> IO[str] | None:
        """What it writes."""
        return self.process.stdout

    def interrupt(self) -> int:
        """Ctrl-C, and its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@contextmanager
def interruptible(command: Sequence[str]) -> Iterator[Interruptible]:
    """``command`` for the time of the block."""
    with _with_interrupts():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield Interruptible(process)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _with_interrupts() -> Iterator[None]:
    """A process that ignores Ctrl-C hands that on to those that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
