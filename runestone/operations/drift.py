"""What was changed at run time and stands nowhere else: it ends with the process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import define

from runestone.config.build import Entry, Loaded, build
from runestone.config.inherited import InForce
from runestone.config.overlay import BREAKERS
from runestone.config.settings import ConfigurationError, Settings
from runestone.configuration import Memory

Path = tuple[str, ...]
_NAMED: Final = ("providers", "groups", BREAKERS)


@define(slots=True, eq=False)
class Drift:
    """Compares what is in force with what file and variables alone would give; that is built once for each change."""

    _of: tuple[object, object] | None = None
    _base: Loaded | None = None

    def base(self, memory: Memory) -> Loaded | None:
        """What file and variables give; ``None``: without what was changed at run time they could not be used."""
        key = (memory.sources, memory.overlay)
        if self._of is None or self._of[0] is not key[0] or self._of[1] is not key[1]:
            self._of = key
            try:
                self._base = build(memory.sources, {}) if memory.overlay.tables else memory.loaded
            except ConfigurationError:
                self._base = None
        return self._base

    def unsaved(self, memory: Memory) -> list[str]:
        """The keys, sorted."""
        base, loaded = self.base(memory), memory.loaded
        if base is loaded:
            return []
        return [".".join(path) for path, _ in memory.overlay.values() if base is None or not _same(path, base, loaded)]

    def before(self, memory: Memory) -> Mapping[Path, Entry]:
        """What file and variables give, or the defaults, by the paths of the overlay."""
        base = self.base(memory)
        if base is None:
            return {}
        paths = [path for path, _ in memory.overlay.values()]
        return _in_force(base, paths)

    def now(self, memory: Memory) -> Mapping[Path, Entry]:
        """What the overlay has put in force, by its paths; what waits, as for its provider, is not."""
        found = _in_force(memory.loaded, [path for path, _ in memory.overlay.values()])
        return {path: entry for path, entry in found.items() if entry.origin == "runtime"}


def _in_force(loaded: Loaded, paths: Iterable[Path]) -> dict[Path, Entry]:
    values = InForce(loaded)
    found = {path: values.at(_own(path)) for path in paths}
    return {path: entry for path, entry in found.items() if entry is not None}


def _own(path: Path) -> Path:
    """Where a setting of a provider stands that was made by `breaker set`."""
    kind, *rest = path
    return ("providers", rest[0], "circuit_breaker", *rest[1:]) if kind == BREAKERS else path


def _same(path: Path, one: Loaded, other: Loaded) -> bool:
    """Whether what ``path`` belongs to is the same in both: a provider or a group as a whole, else the value alone."""
    kind, *rest = path
    if kind in _NAMED and rest:
        first, second = _named(kind, rest[0], one.settings), _named(kind, rest[0], other.settings)
        return first == second and (kind != BREAKERS or first is not None)
    return bool(_value(path, one.entries) == _value(path, other.entries))


def _named(kind: str, name: str, settings: Settings) -> object:
    there = settings.groups if kind == "groups" else settings.providers
    return next((one for one in there if one.name == name), None)


def _value(path: Path, entries: tuple[Entry, ...]) -> Any:
    return next((entry.value for entry in entries if entry.path == path), None)
