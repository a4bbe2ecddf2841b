"""Logs: loguru over one bounded queue and one thread, so that a slow disk never slows a request. No prompt, no key, no forged line."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

import msgspec
from attrs import field, frozen
from loguru import logger
from msgspec import Struct

from runestone.domain.secret import ANY_KEY_BEGINS, KEY_BEGINNINGS
from runestone.telemetry.writer import Writer

if TYPE_CHECKING:
    from loguru import Message, Record, RecordException

_QUEUE: Final = 10_000
_KEPT: Final = 5000  # lines in memory, for whoever looks without a terminal or a file
_STOP_SECONDS: Final = 2.0  # for what is queued, when the process ends
_SECRETS: Final = re.compile(
    r"""((?i:\bbearer\s+|api[-_]?key(?:['"]?\s*[:=]|['"],)\s*b?['"]?)(?=[^\s'"]{6})"""
    rf"""|\b(?:(?i:sk-)|{ANY_KEY_BEGINS})(?=[\w.~+/=-]{{6}}))[^\s'"]+"""
)
_MARKS: Final = ("key", "bearer", *map(str.casefold, KEY_BEGINNINGS))  # one of them is in whatever _SECRETS finds
_CONTROL: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)  # and halves of characters, which no file takes

_SHORT: Final = 100

#: The client request that the present task is about; it goes into every line that is logged meanwhile.
REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)


def masked(text: str) -> str:
    """``text`` without what looks like a key, on one line."""
    return _masked_again(text) if len(text) <= _SHORT else masked_once(text)


def masked_once(text: str) -> str:
    """:func:`masked`, for what does not come again."""
    folded = text.casefold()
    for word in _MARKS:  # to look for the words alone takes a tenth of the time
        if word in folded:
            text = _SECRETS.sub(r"\1***", text)
            break
    return text if text.isprintable() else _CONTROL.sub(lambda m: repr(m[0])[1:-1], text)


_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_masked_again: Final = lru_cache(maxsize=4096)(
    masked_once
)  # names come again with each line, and ids with each event of a request


class Line(Protocol):
    """What becomes a line of the log; the writer's thread asks."""

    @property
    def at(self) -> float:
        """When, in epoch seconds."""
        ...

    @property
    def level(self) -> str:
        """How grave, by loguru's names."""
        ...

    @property
    def logger(self) -> str:
        """Who says it."""
        ...

    @property
    def request_id(self) -> str | None:
        """Which client request it is about."""
        ...

    def told(self) -> dict[str, Any] | Struct:
        """All that the line says, flat, as it is written: masked, each text on one line."""
        ...

    def text(self) -> str:
        """The short of it, for people."""
        ...


@frozen(kw_only=True)
class Said:
    """A line by loguru."""

    at: float
    level: str
    logger: str
    message: str
    more: Mapping[str, Any] = field(factory=dict)
    error: str = ""
    trace: str = ""

    @property
    def request_id(self) -> str | None:
        """Which client request it is about."""
        return self.more.get("request_id")

    def told(self) -> dict[str, Any]:
        """The message, what it is about, and an exception with its traceback."""
        error = {"error": self.error, "trace": self.trace} if self.error else {}
        return flat(self, {"event": self.message, **self.more, **error})

    def text(self) -> str:
        """The message. An exception is indented, so that no line of its own text can pass for a record."""
        text, request_id = masked(self.message), self.more.get("request_id")
        if request_id is not None and request_id not in text:
            text = f"{text} ({masked(request_id)})"
        return "\n  ".join((text, *map(masked, self.trace.splitlines())))


class Tail:
    """The last lines, in memory. They are put here by any thread, as they are: what they say is made when somebody asks."""

    def __init__(self, keep: int = _KEPT) -> None:
        self._numbers = itertools.count(1)
        self._slots: list[tuple[int, Line] | None] = [None] * keep  # whose length never changes: it needs no lock

    def put(self, line: Line) -> None:
        """Keep one line."""
        number = next(self._numbers)
        self._slots[number % len(self._slots)] = number, line

    def kept(self) -> list[tuple[int, Line]]:
        """Those that are remembered, the oldest first, each with its number, counted from 1 since the start of the process."""
        return sorted((slot for slot in self._slots if slot is not None), key=itemgetter(0))


class Sink:
    """Writes lines in a thread of its own. Beyond the bound they are dropped and counted; how many, a line tells as soon as it can.

    loguru knows it by its methods: it calls ``write``, and ``stop`` when the sink is removed, at the latest at the end of the process.
    """

    def __init__(self, write: Callable[[bytes], object], *, as_json: bool) -> None:
        """``write`` takes whole lines, in UTF-8; what it raises is ``OSError`` or ``ValueError``."""
        self._put_down = write
        self._rendered = _as_json if as_json else _as_text
        self._number: int | None = None  # loguru's, of the level in force
        self._least = 0
        self._staying = False
        self._told = 0
        self.tail = Tail()
        self._writer = Writer("log writer", self._write, _QUEUE)

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._writer.dropped

    def write(self, message: Message) -> None:
        """Queue one of loguru's records. Its traceback is made here: a queue must not keep alive what frames hold."""
        record = message.record
        more = {key: _plain(value) for key, value in record["extra"].items()}
        if (request_id := REQUEST_ID.get()) is not None:
            more.setdefault("request_id", request_id)
        error = record["exception"]
        self.put(
            Said(
                at=record["time"].timestamp(),
                level=record["level"].name,
                logger=record["name"] or "",
                message=record["message"],
                more=more,
                error="" if error is None else f"{error.type.__name__ if error.type else None}: {error.value}",
                trace="" if error is None else _trace(error),
            )
        )

    def put(self, line: Line) -> None:
        """Queue a line that did not come by loguru, which takes its time. Ask :meth:`takes` before."""
        self.tail.put(line)
        self._writer.put(line)

    def takes(self, level: int) -> bool:
        """Whether lines of this level are written."""
        return level >= self._least

    def set_level(self, level: str) -> None:
        """Take what is of ``level`` or above, at once."""
        number = logger.add(self, level=level, format="{message}", diagnose=False, backtrace=False, catch=True)
        if self._number is not None:
            self._staying = True
            logger.remove(self._number)
            self._staying = False
        self._number = number
        self._least = logger.level(level).no

    def stop(self) -> None:
        """Write what is queued, and end. A stream that takes nothing does not hold this up for long."""
        if not self._staying:
            self._writer.stop(_STOP_SECONDS)

    def _write(self, lines: Sequence[Line]) -> None:
        self._put_down(b"".join([self._rendered(line) for line in lines]))
        if (dropped := self.dropped) > self._told:
            text = f"dropped log lines: {dropped - self._told}"
            self._told = dropped
            line = Said(at=time.time(), level="WARNING", logger=__name__, message=text)
            self._put_down(self._rendered(line))


def flat(line: Line, fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` behind what every line begins with, as :meth:`Line.told` gives it."""
    data: dict[str, Any] = {"ts": moment(line.at), "level": line.level, "logger": masked(line.logger)}
    for key, value in fields.items():
        if key not in data:
            data[key] = masked(value) if type(value) is str else value
    return data


def moment(at: float) -> str:
    """``at``, in epoch seconds, as a line tells it: in UTC, to the microsecond."""
    second, micros = divmod(round(at * 1_000_000), 1_000_000)
    return f"{_second(second)}.{micros:06}+00:00"


@lru_cache(maxsize=8)  # thousands of lines have the same
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


def _as_json(line: Line) -> bytes:
    return _encode(line.told()) + b"\n"


def _as_text(line: Line) -> bytes:
    at = datetime.fromtimestamp(line.at, UTC).astimezone()
    text = f"{at:%H:%M:%S}.{at.microsecond // 1000:03} {line.level:<7} {line.text()}\n"
    return text.encode("utf-8", "backslashreplace")


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _trace(error: RecordException) -> str:
    return "".join(traceback.format_exception(error.type, error.value, error.traceback))


def configure(level: str, form: str, stream: TextIO = sys.stderr) -> Sink:
    """Send all logs of the process, the standard library's too, to ``stream``."""
    sink = Sink(_unlocked(stream), as_json=form == "json" or (form == "auto" and not stream.isatty()))
    logger.remove()
    sink.set_level(level)
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)
    logging.getLogger("hypercorn.error").setLevel(logging.WARNING)
    return sink


def _unlocked(stream: TextIO) -> Callable[[bytes], object]:
    """Writes to ``stream``, where it has a descriptor past its buffer: a thread that is stuck there holds a lock which ends no process."""
    try:
        file = stream.fileno()
    except OSError:
        return lambda lines: stream.write(lines.decode())
    stream.flush()

    def write(lines: bytes) -> None:
        left = memoryview(lines)
        while left:
            left = left[os.write(file, left) :]

    return write


class _Intercept(logging.Handler):
    """The standard library's records, into loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        level: str | int = (
            record.levelname
            if record.levelname in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
            else record.levelno
        )
        if record.name == "asyncio" and record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
            # CPython 3.11 says so of each connection whose task is cancelled, as at the end: no failure
            level = "DEBUG"
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):  # its arguments do not fit: not the trouble of whoever logs
            text = f"{record.msg} {record.args}"

        def renamed(own: Record) -> None:
            own["name"] = record.name

        logger.patch(renamed).opt(exception=record.exc_info).log(level, "{}", text)
