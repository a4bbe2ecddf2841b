"""What is in force where a provider or a group has nothing of its own, and in what one set of settings differs from another."""

from __future__ import annotations

from typing import Any, Final

from attrs import define, field, frozen

from runestone.config.build import COST_GROUP, Entry, Loaded
from runestone.config.load import dotted
from runestone.config.options import BREAKER

Path = tuple[str, ...]
_OF_ALL: Final[dict[Path, Path]] = {
    ("providers", "retry_attempts"): ("retry", "max_attempts"),
    ("providers", "probe_interval_ms"): ("health", "probe_interval_ms"),
    **{("providers", "circuit_breaker", key): ("circuit_breaker", key) for key in BREAKER.values()},
    ("groups", "strategy"): ("failover", "strategy"),
    ("groups", "max_attempts"): ("failover", "max_attempts"),
    ("groups", "health_threshold"): ("failover", "health_threshold"),
    ("groups", "mode"): ("server", "mode"),
}


@define(slots=True)
class InForce:
    """Every value of ``loaded`` by its path."""

    loaded: Loaded
    own: dict[Path, Entry] = field(init=False)  # a provider's, a group's or the node's

    @own.default
    def _by_path(self) -> dict[Path, Entry]:
        return {entry.path: entry for entry in self.loaded.entries}

    def at(self, path: Path) -> Entry | None:
        """The value that ``path`` has, with where it comes from; ``None`` where there is no such thing."""
        entry = self.own.get(path)
        if (entry is not None and entry.value is not None) or path[0] not in ("providers", "groups"):
            return entry
        kind, name, *rest = path
        there = self.loaded.settings.groups if kind == "groups" else self.loaded.settings.providers
        one = next((one for one in there if one.name == name), None)
        if one is None:
            return entry
        special: dict[Path, Any] = {
            ("providers", key): getattr(one, key, None) for key in ("base_url", "default_model")
        }
        special["groups", "members"] = list(getattr(one, "providers", ()))
        if name == COST_GROUP:
            special["groups", "strategy"] = getattr(one, "strategy", None)
        if (place := (kind, *rest)) in special:
            return Entry(path=path, value=special[place], origin="default")
        return self.own.get(_OF_ALL.get(place, path))


@frozen
class Difference:
    """One setting that is another one: its key, and what it was and is, as it may be told (of a secret nothing)."""

    key: str
    before: Any
    after: Any


def differences(before: Loaded, after: Loaded) -> tuple[Difference, ...]:
    """What was set otherwise, by key. Defaults that come and go with a thing are not told."""
    old, new = InForce(before), InForce(after)
    paths = sorted(path for path in {*old.own, *new.own} if _set(old, new, path))
    pairs = [(path, old.at(path), new.at(path)) for path in paths]
    return tuple(
        Difference(dotted(path), None if was is None else was.shown, None if now is None else now.shown)
        for path, was, now in pairs
        if (was and was.value) != (now and now.value)
    )


def _set(old: InForce, new: InForce, path: Path) -> bool:
    return any((entry := side.own.get(path)) is not None and entry.written for side in (old, new))
