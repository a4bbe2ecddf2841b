"""System messages: what goes before everything else in a mailbox."""

from __future__ import annotations

import asyncio

from supervisors.exit import ExitReason


class StopRequest:
    """A system message: stop with ``reason``, after ``terminate``."""

    __slots__ = ("reason",)

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason

    def fail(self, reason: ExitReason) -> None:
        """The process has ended before it read this."""


class Doomed:
    """A system message: whatever swallowed the cancellation, it must not go on to the next message."""

    __slots__ = ()

    def run(self, _: object) -> None:
        """End."""
        raise asyncio.CancelledError

    def fail(self, reason: ExitReason) -> None:
        """The process has ended before it read this."""
