"""Processes as somebody at a terminal has them: on one of its own, or interrupted with Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import pexpect
from attrs import define


class Screen(pexpect.spawn):  # type: ignore[misc, type-arg, unused-ignore] # pexpect has no types
    """A process on a terminal of its own."""

    def expect_eof(self) -> None:
        """Wait for its end; ``exitstatus`` is known then."""
        self.expect(pexpect.EOF)
        self.close()


@contextmanager
def terminal(command: Sequence[str], seconds: float = 30.0) -> Iterator[Screen]:
    """``command`` on a terminal for the time of the block."""
    screen = Screen(command[0], list(command[1:]), timeout=seconds, encoding="utf-8", dimensions=(50, 200))
    try:
        yield screen
    finally:
        screen.close(force=True)


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
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # one that ignores it hands that on
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield Interruptible(process)
    finally:
        process.kill()
        process.communicate()
