"""The migration guide's option names, as tables of ``runestone.toml``. Times are milliseconds in both."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runestone.config.settings import ConfigurationError, Problem
from runestone.domain.secret import Secret

BREAKER: Final = {
    "failure_threshold": "failure_threshold",
    "recovery_timeout": "recovery_timeout_ms",
    "half_open_limit": "half_open_limit",
    "slow_first_token": "slow_first_token_ms",
}
_PROVIDER: Final = {
    "api_key": "api_key",
    "base_url": "base_url",
    "timeout": "timeout_ms",
    "retry_attempts": "retry_attempts",
    "circuit_breaker": "circuit_breaker",
    "telemetry": "telemetry",
    "probe_interval": "probe_interval_ms",
    "default_model": "default_model",
    "models": "models",
    "headers": "headers",
    "max_concurrency": "max_concurrency",
    "adaptive_concurrency": "adaptive_concurrency",
    "max_queue": "max_queue",
    "queue_timeout": "queue_timeout_ms",
}
_GROUP: Final = {name: name for name in ("strategy", "max_attempts", "health_threshold", "models", "weights", "mode")}


def provider_table(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a provider of ``kind``. Raises :class:`ConfigurationError` for an option that there is not."""
    table = {"kind": kind, **_renamed(config, _PROVIDER)}
    if isinstance(key := table.get("api_key"), str):
        table["api_key"] = Secret(key)
    if isinstance(own := table.get("circuit_breaker"), Mapping):
        table["circuit_breaker"] = breaker_table(own)
    return table


def group_table(members: Sequence[str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a group; without ``members`` they stay what they are. Raises :class:`ConfigurationError`."""
    return {**({} if members is None else {"members": list(members)}), **_renamed(options, _GROUP)}


def breaker_table(config: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a breaker. Raises :class:`ConfigurationError`."""
    return _renamed(config, BREAKER)


def _renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    if unknown := sorted(set(config) - names.keys()):
        raise ConfigurationError(tuple(_unknown(str(option), list(names)) for option in unknown))
    return {names[option]: value for option, value in config.items() if value is not None}


def _unknown(option: str, known: list[str]) -> Problem:
    near = difflib.get_close_matches(option, known, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return Problem(where="runtime", what=f"{option[:60]} is no option", got="it", allowed=", ".join(known) + hint)
