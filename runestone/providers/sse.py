"""Server-sent events: bytes in, whole events out, whatever the split. Linear in the bytes, bounded per event.

Lines end at CR, LF or CRLF and nowhere else (U+2028 and U+0085 are data). The work is split in two, so that a codec of the same wire can
stop after the first half: :class:`Blocks` cuts the stream at blank lines and normalises line ends to LF, :func:`parse` reads one block.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import define

EVENT_BYTES: Final = 1024 * 1024
TURN_LINES: Final = 512  # of a stream that are read in one go, some microseconds each
TURN_BYTES: Final = 4096  # so few are read in one go whatever they are
_DENSE_BYTES: Final = 256  # what is shorter holds too few blank lines to be worth a look
_BOM: Final = b"\xef\xbb\xbf"
_BLANK_LINES: Final = re.compile(rb"\n{3,}")
_LF_LINES: Final = re.compile(rb"(?:.*\n){1,%d}" % TURN_LINES)  # as quick as counting them
_LINES: Final = re.compile(rb"(?:[^\r\n]*[\r\n]){1,%d}" % TURN_LINES)


def turn(data: bytes, begin: int) -> int:
    """Where in ``data`` to give others a turn of the event loop, read from ``begin``: behind :data:`TURN_LINES` lines, or at its end."""
    if len(data) - begin <= TURN_BYTES:
        return len(data)
    found = (_LINES if b"\r" in data else _LF_LINES).match(data, begin)
    return len(data) if found is None else found.end()


def condensed(blocks: bytes) -> bytes:
    """``blocks`` without more than one blank line at a time: a run of them would be as many events without anything."""
    return _BLANK_LINES.sub(b"\n\n", blocks) if len(blocks) >= _DENSE_BYTES and b"\n\n\n" in blocks else blocks


@define
class Event:
    """One event. ``name`` is ``b""`` where the stream names none."""

    name: bytes
    data: bytes


class Blocks:
    """Cuts a stream into runs of whole blocks, each ended by a blank line."""

    __slots__ = ("_after_cr", "_limit", "_parts", "_size", "_started")

    def __init__(self, limit: int = EVENT_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []  # joined only when a blank line comes, so that many small reads stay linear
        self._size = 0
        self._after_cr = False
        self._started = False

    def feed(self, data: bytes) -> bytes:
        """The whole blocks that ``data`` completes: ``b""`` or bytes that end with a blank line, with LF as line end."""
        if not self._started:
            data = self._skip_bom(data)
        if self._after_cr or b"\r" in data:
            data = self._normalise(data)
        if not self._parts:
            if data.endswith(b"\n\n"):
                return data
        elif b"\n\n" not in data and not (data.startswith(b"\n") and self._parts[-1].endswith(b"\n")):
            return self._keep(data)
        return self._cut(data)

    @property
    def overflow(self) -> bool:
        """An event, or a line without end, has outgrown the limit: feed no more."""
        return self._size > self._limit

    def _cut(self, data: bytes) -> bytes:
        if self._parts:
            self._parts.append(data)
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            return self._keep(data)
        if end < len(data):
            self._keep(data[end:])
        return data[:end]

    def _keep(self, data: bytes) -> bytes:
        if not self._parts:
            data = data.lstrip(b"\n")  # blank lines before an event are no part of it
        if data:
            self._parts.append(data)
            self._size += len(data)
        return b""

    def _normalise(self, data: bytes) -> bytes:
        """A CR is a line end at once; the LF that may follow it in a later read is then none."""
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if data.endswith(b"\r"):
            self._after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _skip_bom(self, data: bytes) -> bytes:
        data = b"".join((*self._parts, data))
        self._parts.clear()
        self._size = 0
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._keep(data)
            return b""
        self._started = True
        return data.removeprefix(_BOM)


def parse(block: bytes) -> Event | None:
    """Read one block (without its blank line). ``None`` for one without data: comments, ``id:`` and ``retry:`` alone."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return Event(b"", block[6:])
    name = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        key, _, value = line.partition(b":")
        if key == b"data":
            data.append(value.removeprefix(b" "))
        elif key == b"event":
            name = value.removeprefix(b" ")
    return Event(name, b"\n".join(data)) if data else None


class Events:
    """The two halves together: bytes in, events out."""

    __slots__ = ("_blocks", "_limit", "overflow")

    def __init__(self, limit: int = EVENT_BYTES) -> None:
        self._limit = limit
        self._blocks = Blocks(limit)
        self.overflow = False  #: an event was too large; those before it were given, none follows

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes."""
        events: list[Event] = []
        for block in condensed(self._blocks.feed(data)).split(b"\n\n"):
            self.overflow = self.overflow or len(block.lstrip(b"\n")) >= self._limit
            if not self.overflow and (event := parse(block)) is not None:
                events.append(event)
        self.overflow = self.overflow or self._blocks.overflow
        return events
