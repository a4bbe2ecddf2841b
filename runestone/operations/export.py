"""What was changed at run time, as a piece of ``runestone.toml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import tomli_w

from runestone.config.overlay import BREAKERS
from runestone.configuration import Memory
from runestone.domain.routing import is_throw_away
from runestone.domain.secret import Secret

_HEADER_DEPTH: Final = 4  # providers.NAME.headers.HEADER
_ODD: Final = re.compile(r"[^A-Za-z0-9]+")


def toml(memory: Memory) -> str:
    """The overlay's tables: merged into the file, they make its values permanent.

    A key is never written, nor a header, which may hold one: its place is taken by a variable to set. What was taken away from the file,
    and what was tuned for a provider that is not there, is told in comments.
    """
    tables = memory.overlay.layer({p.name for p in memory.live.settings.providers if p.circuit_breaker})
    for kind in ("providers", "groups"):
        if kept := {name: table for name, table in tables.pop(kind, {}).items() if not is_throw_away(name)}:
            tables[kind] = kept
    tuned = {n: t for n, t in memory.overlay.tables.get(BREAKERS, {}).items() if n not in tables.get("providers", {})}
    comments = [
        f"# {name} is not there, or its breaker only measures; it was tuned: {dict(table)}"
        for name, table in tuned.items()
    ]
    comments += [
        f"# take out [{kind}.{name}]: it was removed"
        for kind, entries in tables.items()
        for name, table in entries.items()
        if table is None
    ]
    return "\n".join((*comments, tomli_w.dumps(_plain((), tables))))


def _plain(path: tuple[str, ...], value: Any) -> Any:
    match value:
        case Secret():
            return {"env": f"{_ODD.sub('_', path[-2]).upper()}_API_KEY"}
        case str() if len(path) == _HEADER_DEPTH and path[2] == "headers":  # it may hold a key
            return f"${{{_ODD.sub('_', f'{path[1]}_{path[3]}').upper()}}}"
        case Mapping():
            return {key: _plain((*path, key), inner) for key, inner in value.items() if inner is not None}
        case _:
            return value
