"""What was changed at run time, as one more layer of settings. A frozen value: each change makes a new one.

``breakers`` holds what was tuned for a provider by name: it is kept for one that is not there yet, and applied when it comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from attrs import field, frozen

BREAKERS: Final = "breakers"
Path = tuple[str, ...]
Table = Mapping[str, Any]


class Whole(dict[str, Any]):
    """A table that replaces what lower layers have under its name, instead of being mixed into it."""


@frozen
class Overlay:
    """Nested tables as in the file. ``None`` instead of a provider's or a group's table takes away what lower layers have."""

    tables: Table = field(factory=dict, repr=False)

    def edited(self, path: Path, value: Any, *, in_base: bool) -> Overlay:
        """With ``value`` at ``path``; ``None`` takes away what is there, in lower layers too where they have it (``in_base``)."""
        if value is None and not in_base:
            return Overlay(_without(self.tables, path))
        return Overlay(_with(self.tables, path, value))

    def layer(self, providers: Collection[str]) -> dict[str, Any]:
        """The tables as the loader takes them; what was tuned for one of ``providers`` stands in its own table."""
        tables = {name: value for name, value in self.tables.items() if name != BREAKERS}
        for name, tuned in self.tables.get(BREAKERS, {}).items():
            if name in providers:
                own = (tables.get("providers", {}).get(name) or {}).get("circuit_breaker")
                if own is False:  # it only measures; what was tuned waits
                    continue
                both = {**own, **tuned} if isinstance(own, Mapping) else tuned
                tables = dict(_with(tables, ("providers", name, "circuit_breaker"), both))
        return tables

    def values(self) -> list[tuple[Path, Any]]:
        """Every value and its path, sorted."""
        return sorted(_leaves((), self.tables), key=lambda leaf: leaf[0])


def _with(table: Table, path: Path, value: Any) -> Table:
    name, *rest = path
    below = table.get(name)
    inner = below if isinstance(below, Mapping) else {}
    return type(table)({**table, name: _with(inner, tuple(rest), value) if rest else value})  # type: ignore[call-arg] # a dict


def _without(table: Table, path: Path) -> Table:
    name, *rest = path
    below = table.get(name)
    left = _without(below, tuple(rest)) if rest and isinstance(below, Mapping) else None
    kept = {**{k: v for k, v in table.items() if k != name}, **({name: left} if left else {})}
    return type(table)(kept)  # type: ignore[call-arg] # a dict


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves((*path, name), inner)
    elif path:
        yield path, value
