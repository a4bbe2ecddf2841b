"""What is in force where a provider or a group has nothing of its own: what all have, or what its kind has."""

from __future__ import annotations

from typing import Any, Final

from runestone.config.build import COST_GROUP, Entry, Loaded

Path = tuple[str, ...]
_BREAKER: Final = ("failure_threshold", "recovery_timeout_ms", "half_open_limit", "slow_first_token_ms")
_OF_ALL: Final[dict[Path, Path]] = {
    ("providers", "retry_attempts"): ("retry", "max_attempts"),
    ("providers", "probe_interval_ms"): ("health", "probe_interval_ms"),
    **{("providers", "circuit_breaker", key): ("circuit_breaker", key) for key in _BREAKER},
    ("groups", "strategy"): ("failover", "strategy"),
    ("groups", "max_attempts"): ("failover", "max_attempts"),
    ("groups", "health_threshold"): ("failover", "health_threshold"),
    ("groups", "mode"): ("server", "mode"),
}


def in_force(loaded: Loaded, path: Path) -> Entry | None:
    """The value that ``path`` has, with where it comes from; ``None`` where there is no such thing."""
    entries = {entry.path: entry for entry in loaded.entries}
    entry = entries.get(path)
    if (entry is not None and entry.value is not None) or path[0] not in ("providers", "groups"):
        return entry
    kind, name, *rest = path
    there = loaded.settings.groups if kind == "groups" else loaded.settings.providers
    one = next((one for one in there if one.name == name), None)
    if one is None:
        return entry
    own: dict[Path, Any] = {("providers", key): getattr(one, key, None) for key in ("base_url", "default_model")}
    own["groups", "members"] = list(getattr(one, "providers", ()))
    if name == COST_GROUP:
        own["groups", "strategy"] = getattr(one, "strategy", None)
    place = (kind, *rest)
    if place in own:
        return Entry(path=path, value=own[place], origin="default")
    return entries.get(_OF_ALL.get(place, path))
