"""Logs: loguru over one bounded queue and one thread, so that a slow disk never slows a request. No prompt, no key, no forged line."""

from __future__ import annotations

import logging
import queue
import re
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TextIO

import orjson
from loguru import logger

if TYPE_CHECKING:
    from loguru import Message, Record, RecordException

_QUEUE: Final = 10_000
_STOP_SECONDS: Final = 2.0  # for what is queued, when the process ends
_SECRETS: Final = re.compile(
    r"""(?i)((?:\bbearer\s+|api[-_]?key(?:['"]?\s*[:=]|['"],)\s*b?['"]?)(?=[^\s'"]{6})|\bsk-(?=[\w.~+/=-]{6}))[^\s'"]+"""
)
_CONTROL: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)  # and halves of characters, which no file takes


def masked(text: str) -> str:
    """``text`` without what looks like a key, on one line."""
    return _CONTROL.sub(lambda m: repr(m[0])[1:-1], _SECRETS.sub(r"\1***", text))


class Sink:
    """Writes records in a thread of its own. Beyond the bound they are dropped and counted.

    loguru knows it by its methods: it calls ``write``, and ``stop`` when the sink is removed, at the latest at the end of the process.
    """

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._queue: queue.Queue[str | None] = queue.Queue(_QUEUE)
        self.dropped = 0
        self._number: int | None = None  # loguru's, of the level in force
        self._staying = False
        self._thread = threading.Thread(target=self._write, name="log writer", daemon=True)
        self._thread.start()

    def write(self, message: Message) -> None:
        """Queue one record."""
        try:
            self._queue.put_nowait(self._line(message))
        except queue.Full:
            self.dropped += 1

    def set_level(self, level: str) -> None:
        """Take what is of ``level`` or above, at once."""
        number = logger.add(self, level=level, format="{message}", diagnose=False, backtrace=False, catch=True)
        if self._number is not None:
            self._staying = True
            logger.remove(self._number)
            self._staying = False
        self._number = number

    def stop(self) -> None:
        """Write what is queued, and end. A stream that takes nothing does not hold this up for long."""
        if self._staying:
            return
        with suppress(queue.Full):
            self._queue.put(None, timeout=_STOP_SECONDS)
            self._thread.join(timeout=_STOP_SECONDS)

    def _line(self, message: Message) -> str:
        record = message.record
        text, error = masked(record["message"]), record["exception"]
        if self._as_json:
            data = {
                "ts": record["time"].isoformat(),
                "level": record["level"].name,
                "logger": record["name"],
                "event": text,
            }
            if error is not None:
                data["error"] = masked(f"{error.type.__name__ if error.type else None}: {error.value}")
                data["trace"] = masked(_trace(error))
            return orjson.dumps(data, default=str).decode()
        line = f"{record['time']:%H:%M:%S}.{record['time'].microsecond // 1000:03} {record['level'].name:<7} {text}"
        # Indented, so that no line of an exception's own text can pass for a record.
        return line if error is None else "\n  ".join((line, *map(masked, _trace(error).splitlines())))

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1


def _trace(error: RecordException) -> str:
    return "".join(traceback.format_exception(error.type, error.value, error.traceback))


def configure(level: str, form: str, stream: TextIO = sys.stderr) -> Sink:
    """Send all logs of the process, the standard library's too, to ``stream``."""
    sink = Sink(stream, as_json=form == "json" or (form == "auto" and not stream.isatty()))
    logger.remove()
    sink.set_level(level)
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)
    logging.getLogger("hypercorn.error").setLevel(logging.WARNING)
    return sink


class _Intercept(logging.Handler):
    """The standard library's records, into loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        level: str | int = (
            record.levelname
            if record.levelname in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
            else record.levelno
        )
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):  # its arguments do not fit: not the trouble of whoever logs
            text = f"{record.msg} {record.args}"

        def renamed(own: Record) -> None:
            own["name"] = record.name

        logger.patch(renamed).opt(exception=record.exc_info).log(level, "{}", text)
