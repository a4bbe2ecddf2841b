"""An answer in the format that was asked for. Standard output has the answer and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from runestone.console import render

Answer = Mapping[str, Any]
Rows = Callable[[Answer], Sequence[Answer]]
_NAMES: Final = ("seq", "id", "name", "provider", "group", "actor", "path", "key", "task", "event")


def rows(data: Answer) -> Sequence[Answer]:
    """What an answer is about, one by one: the list that it begins with, the table by name, or the one thing."""
    first = next((value for key, value in data.items() if key != "v"), None)
    match first:
        case list() if all(isinstance(one, Mapping) for one in first):
            return first
        case Mapping() if first and all(isinstance(one, Mapping) for one in first.values()):
            return [{"name": name, **one} for name, one in first.items()]
        case Mapping():
            return [first]
        case _:
            return [data]


def told(
    data: Answer, form: str, *, as_text: Callable[[Answer], str], as_rows: Rows = rows, header: bool = True
) -> str:
    """``data`` in one of :data:`~runestone.console.options.FORMATS`."""
    match form:
        case "json":
            return json.dumps(data)
        case "ndjson":
            return "\n".join(json.dumps(row) for row in as_rows(data))
        case "name":
            return "\n".join(_name(row) for row in as_rows(data))
        case _:
            with render.style(header=header, wide=form == "wide"):
                return as_text(data)


def _name(row: Answer) -> str:
    """A thing that has no name goes by its first value."""
    values = [row[key] for key in _NAMES if isinstance(row.get(key), str | int) and row[key] != ""]
    return str((values or [value for key, value in row.items() if key != "v"] or [""])[0])
