"""Events as they are shown: plain data for JSON, and the table of all of them."""

from __future__ import annotations

from typing import Any

import attrs

from runestone.telemetry.events import CATALOGUE, Event
from runestone.telemetry.logs import masked


def as_data(event: Event) -> dict[str, Any]:
    """The fields of ``event`` by name; its texts on one line, and without what looks like a key."""
    return {field.name: _plain(getattr(event, field.name)) for field in attrs.fields(type(event))}


def _plain(value: Any) -> Any:
    match value:
        case str():
            return masked(value)
        case tuple():
            return [_plain(one) for one in value]
        case _ if attrs.has(type(value)):
            return attrs.asdict(value)
        case _:
            return value


def catalogue() -> list[dict[str, str]]:
    """Every event: its name, its fields, and what it says, as :mod:`runestone.telemetry.events` has it."""
    return [
        {
            "event": name,
            "fields": ", ".join(field.name for field in attrs.fields(event)),
            "when": " ".join((event.__doc__ or "").split()),
        }
        for name, event in CATALOGUE.items()
    ]
