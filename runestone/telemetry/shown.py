"""Events as they are shown: plain data for JSON, and the table of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from msgspec import Struct

from runestone.telemetry.events import CATALOGUE, Event
from runestone.telemetry.logs import masked


def as_data(event: Event) -> dict[str, Any]:
    """The fields of ``event`` by name; its texts on one line, and without what looks like a key."""
    return _fields(event)


def _fields(value: Any) -> dict[str, Any]:
    return {name: _plain(getattr(value, name)) for name in _names(type(value))}  # type: ignore[arg-type] # a type has a hash


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, float):
        return round(value, 6)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {masked(str(key)): _plain(one) for key, one in value.items()}
    return _fields(value) if isinstance(value, Struct) else str(value)


@cache
def _names(kind: type[Struct]) -> tuple[str, ...]:
    return kind.__struct_fields__


def catalogue() -> list[dict[str, str]]:
    """Every event: its name, its fields, and what it says, as :mod:`runestone.telemetry.events` has it."""
    return [
        {"event": name, "fields": ", ".join(_names(event)), "when": " ".join((event.__doc__ or "").split())}
        for name, event in CATALOGUE.items()
    ]
