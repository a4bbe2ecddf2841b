"""Events as they are shown: plain data for JSON, and the table of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from runestone.telemetry.events import CATALOGUE, Event
from runestone.telemetry.logs import masked


def as_data(event: Event) -> dict[str, Any]:
    """The fields of ``event`` by name; its texts on one line, and without what looks like a key."""
    return _fields(event)


def _fields(value: Struct) -> dict[str, Any]:
    return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}


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


def catalogue() -> list[dict[str, str]]:
    """Every event: its name, its fields, and what it says, as :mod:`runestone.telemetry.events` has it."""
    return [
        {"event": name, "fields": ", ".join(event.__struct_fields__), "when": " ".join((event.__doc__ or "").split())}
        for name, event in CATALOGUE.items()
    ]
