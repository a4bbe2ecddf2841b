"""The flight recorder: the last events, in memory, and all of them in a file where one is set.

The memory is made before the tree and outlives every actor. What writes the file is an actor with a thread; a disk that is slow or full
drops events, which are counted, and slows nobody.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from attrs import frozen
from loguru import logger

from runestone.telemetry.bus import Bus
from runestone.telemetry.events import CATALOGUE, Event, Failover
from runestone.telemetry.shown import as_data
from runestone.telemetry.writer import Writer
from supervisors import ExitReason, GenServer, run_blocking

_QUEUE: Final = 10_000
_STOP_SECONDS: Final = 2.0  # for what is queued, when the node ends


class Recorded(NamedTuple):
    """One event: its number, counted from 1 since the start of the process, and when it was, in epoch seconds."""

    seq: int
    at: float
    event: Event

    def as_data(self) -> dict[str, Any]:
        """As it is shown, and stands in a file."""
        return {"seq": self.seq, "at": round(self.at, 6), "event": self.event.name, **as_data(self.event)}


@frozen(kw_only=True)
class Wanted:
    """Which events: those behind number ``since``, the oldest first, or (``None``) the last; at most ``limit``.

    ``kinds`` are their types, ``None`` for all; ``provider`` and ``request`` whom they are about.
    """

    since: int | None = None
    kinds: frozenset[type] | None = None
    provider: str | None = None
    request: str | None = None
    limit: int = 100

    def takes(self, recorded: Recorded) -> bool:
        """Whether this is one of them."""
        event = recorded.event
        if self.kinds is not None and type(event) not in self.kinds:
            return False
        if self.request is not None and getattr(event, "request_id", None) != self.request:
            return False
        return self.provider is None or self.provider in _parties(event)


@frozen(kw_only=True)
class Found:
    """Events, the number behind which to look next, and how many that would have been looked at are gone from the memory."""

    events: Sequence[Recorded]
    next: int
    missed: int


def kinds(pattern: str) -> frozenset[type]:
    """The types of event whose name matches ``pattern``, such as ``breaker.*``."""
    return frozenset(kind for name, kind in CATALOGUE.items() if fnmatchcase(name, pattern))


def _parties(event: Event) -> tuple[str | None, ...]:
    if isinstance(event, Failover):
        return event.origin, event.target
    return (getattr(event, "provider", None),)


class Recorder:
    """The memory. A handler of the bus."""

    def __init__(self, keep: int) -> None:
        self._events: deque[Event] = deque(maxlen=keep)
        self._times: deque[float] = deque(
            maxlen=keep
        )  # of them: a record of both would be one more object to keep for each
        self._output: Writer[Recorded] | None = None
        self._given = 0  # the number of the last event that an output got
        self._dropped = 0  # by outputs that have gone
        self.latest = 0  # the number of the last event

    @property
    def dropped(self) -> int:
        """Events that should have been written and were not."""
        return self._dropped + (0 if self._output is None else self._output.dropped)

    @property
    def full(self) -> bool:
        """Whether older events are gone."""
        return len(self._events) == self._events.maxlen

    def kept(self) -> list[Recorded]:
        """All that is remembered, the oldest first."""
        return list(self._from(self._first))

    def newest_first(self) -> Iterator[Recorded]:
        """The same from the other end, as long as nothing is recorded meanwhile."""
        return map(Recorded, count(self.latest, -1), reversed(self._times), reversed(self._events))

    def handle(self, event: Event, at: float) -> None:
        """Keep one event, of the time ``at`` (epoch seconds)."""
        self.latest += 1
        self._events.append(event)
        self._times.append(at)
        if self._output is not None:
            self._output.put(Recorded(self.latest, at, event))
            self._given = self.latest

    def write_to(self, output: Writer[Recorded]) -> Callable[[], None]:
        """Give ``output`` every event, those that came since there was one included; the result ends that."""
        for recorded in self._from(self._given + 1):
            output.put(recorded)
        self._output, self._given = output, self.latest

        def end() -> None:
            self._output = None
            self._dropped += output.dropped

        return end

    def find(self, wanted: Wanted) -> Found:
        """The events that are ``wanted``. A number from before a restart of the process stands for the beginning."""
        if wanted.since is None:
            last = [*islice(filter(wanted.takes, self.newest_first()), wanted.limit)]
            return Found(events=last[::-1], next=self.latest, missed=0)
        since = wanted.since if wanted.since <= self.latest else 0
        start = max(since + 1, self._first)
        events = [*islice(filter(wanted.takes, self._from(start)), wanted.limit)]
        full = len(events) == wanted.limit
        return Found(events=events, next=events[-1].seq if full else self.latest, missed=start - since - 1)

    @property
    def _first(self) -> int:
        """The number of the oldest event that is kept."""
        return self.latest - len(self._events) + 1

    def _from(self, number: int) -> Iterator[Recorded]:
        first = self._first
        start = max(number, first)
        passed = start - first
        times, events = islice(self._times, passed, None), islice(self._events, passed, None)
        return map(Recorded, count(start), times, events)


class EventFile(GenServer[object]):
    """Has every event written to a file while it lives. What its thread still has in hand when it crashes is written all the same."""

    def __init__(self, bus: Bus, recorder: Recorder, path: Path, limit_bytes: int) -> None:
        self._bus = bus
        self._recorder = recorder
        self._lines = JsonLines(path, limit_bytes)

    def init(self) -> None:
        """Begin."""
        writer = self._writer = Writer("event writer", self._lines.write, _QUEUE)
        end = self._recorder.write_to(writer)

        def over(*_: object) -> None:
            end()
            writer.stop(0.0)

        self.process.on_exit(over)

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        return {"dropped": self._recorder.dropped}

    async def terminate(self, reason: ExitReason) -> None:
        """Let the thread write what it has; it is waited for on another one."""
        self._bus.flush()
        await run_blocking(self._writer.stop, _STOP_SECONDS)


class JsonLines:
    """A file of at most ``limit_bytes``, and its predecessor beside it. Used by one thread.

    It is opened for each batch: what somebody has moved or removed is made anew, and a disk that has room again is used again. What is no
    regular file, such as ``/dev/stdout``, is written to and left as it is.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit = limit_bytes
        self._failing = False

    def write(self, batch: Sequence[Recorded]) -> None:
        """Append ``batch``. Raises ``OSError``, after the log was told."""
        try:
            rest = [orjson.dumps(recorded.as_data(), default=str) + b"\n" for recorded in batch]
            while rest:
                rest = rest[self._append(rest) :]
        except OSError as error:
            if not self._failing:
                self._failing = True
                logger.error("events are not written to {}: {}", self._path, error.strerror)
            raise
        if self._failing:
            self._failing = False
            logger.info("events are written to {} again", self._path)

    def _append(self, lines: Sequence[bytes]) -> int:
        """Append as many of ``lines`` as the file may still hold, and say how many those were."""
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(file)
            regular = stat.S_ISREG(found.st_mode)
            fitting = [*_fitting(lines, self._limit - found.st_size if regular else None)]
            if regular and found.st_size and not fitting:
                self._path.replace(f"{self._path}.1")
                return 0
            if regular and stat.S_IMODE(found.st_mode) != 0o600:
                os.fchmod(file, 0o600)
            self._put(file, b"".join(fitting or lines[:1]), found.st_size if regular else None)
            return len(fitting) or 1
        finally:
            os.close(file)

    def _put(self, file: int, data: bytes, size: int | None) -> None:
        """All of ``data``, or nothing of it: half a line would spoil the next one."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(file, left) :]
        except OSError:
            if size is not None:
                os.ftruncate(file, size)
            raise


def _fitting(lines: Sequence[bytes], room: int | None) -> Iterator[bytes]:
    for line in lines:
        if room is not None:
            room -= len(line)
            if room < 0:
                return
        yield line
