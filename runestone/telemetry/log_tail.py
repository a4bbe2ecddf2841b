"""Lines of the log, found among the last ones that are in memory: for whoever has no file, or no terminal that is still open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from attrs import frozen
from loguru import logger
from msgspec import Struct
from msgspec.structs import asdict

from runestone.telemetry.logs import Line

LEVELS: Final = ("debug", "info", "warning", "error", "critical")


@frozen(kw_only=True)
class WantedLines:
    """Which lines: those behind number ``since``, the oldest first, or (``None``) the last; at most ``limit``.

    ``level`` is the least grave one, ``logger`` who says it, or the beginning of its dotted name; ``request`` whom it is about.
    """

    since: int | None = None
    level: str = "debug"
    logger: str | None = None
    request: str | None = None
    limit: int = 50


@frozen(kw_only=True)
class FoundLines:
    """Lines as they stand in the log's JSON, each with its number (``seq``); the number behind which to look next; how many are gone."""

    lines: Sequence[Mapping[str, Any]]
    next: int
    missed: int


def find(kept: Sequence[tuple[int, Line]], wanted: WantedLines) -> FoundLines:
    """Those of ``kept`` that are ``wanted``. A number from before a restart of the process stands for the beginning."""
    latest, first = (kept[-1][0], kept[0][0]) if kept else (0, 1)
    takes = _filter(wanted)
    if wanted.since is None:
        last = [*islice(filter(None, map(takes, reversed(kept))), wanted.limit)]
        return FoundLines(lines=last[::-1], next=latest, missed=0)
    since = wanted.since if wanted.since <= latest else 0
    lines = [*islice(filter(None, map(takes, (line for line in kept if line[0] > since))), wanted.limit)]
    full = len(lines) == wanted.limit
    return FoundLines(lines=lines, next=lines[-1]["seq"] if full else latest, missed=max(0, first - since - 1))


def _filter(wanted: WantedLines) -> Callable[[tuple[int, Line]], dict[str, Any] | None]:
    least, name, request = _number(wanted.level), wanted.logger, wanted.request

    def takes(kept: tuple[int, Line]) -> dict[str, Any] | None:
        number, line = kept
        if _number(line.level) < least:
            return None
        if name is not None and line.logger != name and not line.logger.startswith(f"{name}."):
            return None
        if request is not None and line.request_id != request:
            return None
        return {"seq": number, **_data(line.told())}

    return takes


def _data(told: dict[str, Any] | Struct) -> dict[str, Any]:
    return asdict(told) if isinstance(told, Struct) else told


@lru_cache(maxsize=64)
def _number(level: str) -> int:
    """How grave a level is, by loguru's numbers; one by the standard library's number alone is called ``Level 15``."""
    try:
        return logger.level(level.upper()).no
    except ValueError:
        number = level.rpartition(" ")[2]
        return int(number) if number.isdecimal() else 0
