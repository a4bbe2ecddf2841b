"""A thread that writes for others: who has something to write puts it down and goes on, however slow the disk or the pipe is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_PACE_SECONDS: Final = 0.2  # between two batches: waking up for each item would cost more than writing it
_BATCH: Final = 500


class Writer(Generic[T]):
    """A queue and a thread of its own that hands what is in it to ``write``, in batches and in order.

    Beyond ``bound`` items are dropped and counted, and so is a batch that ``write`` could not write: it raises
    ``OSError``, ``ValueError`` or ``TypeError``.
    """

    def __init__(self, name: str, write: Callable[[Sequence[T]], None], bound: int) -> None:
        self._write = write
        self._bound = bound
        self._queue: SimpleQueue[T | None] = SimpleQueue()
        self._counting = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.dropped = 0
        self._thread.start()

    def put(self, item: T) -> None:
        """Have ``item`` written, some time soon."""
        if self._queue.qsize() < self._bound:
            self._queue.put(item)
        else:
            self._lost(1)

    def stop(self, seconds: float) -> None:
        """Write what is queued, and end. It waits no longer than ``seconds`` for that."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        next_at = 0.0
        while (first := self._queue.get()) is not None:
            self._stopping.wait(max(0.0, next_at - time.monotonic()))
            batch = [first, *self._waiting()]
            try:
                self._write(batch)
            except (OSError, ValueError, TypeError):
                self._lost(len(batch))
            next_at = time.monotonic() + _PACE_SECONDS if len(batch) < _BATCH else 0.0

    def _waiting(self) -> list[T]:
        found = list[T]()
        while len(found) < _BATCH - 1:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if item is None:
                self._queue.put(None)
                break
            found.append(item)
        return found

    def _lost(self, count: int) -> None:
        with self._counting:
            self.dropped += count
