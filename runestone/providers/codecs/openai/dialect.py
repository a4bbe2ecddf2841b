"""What a row of the catalogue makes of OpenAI's wire: fields by other names, values by other words, fields left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.catalogue import Row

_QUIET: Final = frozenset({"stream_options"})  # what it asks for comes all the same


def spoken(row: Row, body: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """``body`` as providers of ``row`` take it, and the names of the fields that they have no word for."""
    out: dict[str, Any] = {}
    dropped: list[str] = []
    for name, value in body.items():
        if name in row.drops:
            dropped += [] if value is None or name in _QUIET else [name]
            continue
        words = row.values.get(name)
        said = words.get(value, value) if words is not None and isinstance(value, str) else value
        out[row.renames.get(name, name)] = said
    return out, dropped
