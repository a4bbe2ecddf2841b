"""The last lines of the node's log, from memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from runestone.operations import ceilings
from runestone.operations.errors import OperationError
from runestone.operations.node import Node
from runestone.operations.operation import Operation
from runestone.telemetry.log_tail import LEVELS, WantedLines, find

Body = Mapping[str, Any]
Answer = dict[str, Any]
_DIGITS: Final = 18


@frozen
class LogActions:
    """What may be asked about the log of ``node``."""

    node: Node

    def table(self) -> list[Operation]:
        """All of them."""
        return [Operation("GET", "/v1/log/lines", self.lines)]

    async def lines(self, _: str, query: Body) -> Answer:
        """The last lines, or those behind ``since``. Raises :class:`OperationError` ``unavailable`` where the log is not the node's."""
        if self.node.log_tail is None:
            raise OperationError("unavailable", "this node runs inside another program, whose log it writes to")
        level = str(query.get("level", "debug")).lower()
        if level not in LEVELS:
            raise OperationError("refused", f"level must be one of {', '.join(LEVELS)}")
        wanted = WantedLines(
            since=_number(query, "since", 0),
            level=level,
            logger=_text(query, "logger"),
            request=_text(query, "request"),
            limit=_number(query, "limit", 1, ceilings.LISTED) or ceilings.LISTED,
        )
        found = find(self.node.log_tail.kept(), wanted)
        return {"lines": list(found.lines), "next": found.next, "missed": found.missed}


def _text(query: Body, key: str) -> str | None:
    return None if query.get(key) is None else str(query[key])


def _number(query: Body, key: str, least: int, most: int | None = None) -> int | None:
    if query.get(key) is None:
        return None
    text = str(query[key])
    if not text.isdecimal() or len(text) > _DIGITS or int(text) < least or (most is not None and int(text) > most):
        upto = "" if most is None else f" to {most}"
        raise OperationError("refused", f"{key} must be a whole number from {least}{upto}")
    return int(text)
