"""The idle timeout of a stream: counts only while somebody waits for the upstream, so that a slow client is not its provider's fault.

It costs two attribute writes a read. The timer is set once and, when it fires too early, set again for the rest; it ends a stalled read by
failing the stream itself, so that no task need be cancelled.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from runestone.domain.failure import Failure, UpstreamError
from runestone.providers.stream import UpstreamStream

EARLY_SECONDS: Final = 1e-6  # loops fire a timer as early as their clock's step, and sums of floats are off by less


class IdleWatch:
    """Fails ``stream`` once a read of it has waited ``seconds``, which may be infinite."""

    __slots__ = ("_handle", "_loop", "_provider", "_seconds", "_since", "_stream")

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: UpstreamStream, seconds: float, provider: str) -> None:
        self._loop = loop
        self._stream = stream
        self._seconds = seconds
        self._provider = provider
        self._since: float | None = None
        self._handle: asyncio.TimerHandle | None
        self._handle = loop.call_later(seconds, self._check) if seconds < math.inf else None

    def reading(self) -> None:
        """A read begins."""
        self._since = self._loop.time()

    def pause(self) -> None:
        """A read is over."""
        self._since = None

    def end_within(self, seconds: float) -> None:
        """From now on a read may wait ``seconds`` only, if that is less."""
        if seconds < self._seconds:
            self._seconds = seconds
            self.stop()
            self._handle = self._loop.call_later(seconds, self._check)

    def stop(self) -> None:
        """No timer is left behind."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _check(self) -> None:
        now = self._loop.time()
        due = (now if self._since is None else self._since) + self._seconds
        if due - now > EARLY_SECONDS:
            self._handle = self._loop.call_at(due, self._check)
            return
        self._handle = None
        message = f"{self._provider} sent nothing for {self._seconds:g} s"
        self._stream.fail(UpstreamError(Failure(kind="idle_timeout", message=message)))
