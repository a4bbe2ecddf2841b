"""What a breaker would have done with other settings, beside what it has done: over the steps that are kept of its provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from runestone.config.document import CircuitBreakerTable
from runestone.config.kinds import Invalid
from runestone.config.options import breaker_table
from runestone.config.settings import ConfigurationError
from runestone.config.structure import kind_of
from runestone.operations.errors import OperationError
from runestone.operations.steps import rfc3339, turn_as_data
from runestone.resilience.breaker import Breaker, BreakerPolicy
from runestone.resilience.history import Chunk
from runestone.resilience.replay import Difference, Played, difference, open_seconds, play, stand, turns

_FIELDS: Final = {  # of the policy, by the setting's name in the file
    "failure_threshold": "failure_threshold",
    "recovery_timeout_ms": "recovery_timeout_seconds",
    "half_open_limit": "half_open_limit",
    "slow_first_token_ms": "slow_first_token_seconds",
}


def changes_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``options``, named and written as for ``breaker set``, change of a breaker's policy.

    Raises:
        OperationError: ``usage`` for a setting that there is not, ``refused`` for a value that it cannot have.
    """
    try:
        table = breaker_table(options)
    except ConfigurationError as error:
        problem = error.problems[0]
        raise OperationError("usage", f"{problem.what}; there are {problem.allowed}") from None
    attributes = attrs.fields_dict(attrs.resolve_types(CircuitBreakerTable))
    changes: dict[str, Any] = {}
    for key, value in table.items():
        kind = kind_of(attributes[key].type)
        assert kind is not None
        try:
            changes[_FIELDS[key]] = kind.read(value)
        except Invalid as error:
            message = f"{key.removesuffix('_ms')} {error.what}; got {error.got}; allowed: {error.allowed}"
            raise OperationError("refused", message) from None
    if changes.get("slow_first_token_seconds") == 0.0:
        changes["slow_first_token_seconds"] = None
    return changes


def compared(chunks: Sequence[Chunk], changes: Mapping[str, Any], until: float, breaker: Breaker) -> dict[str, Any]:
    """Both courses up to ``until`` (epoch seconds), when it was ``breaker``, and what the difference is for calls.

    It plays the whole history twice: some tens of milliseconds of work. ``exact``: the real course ends with that breaker.
    """
    real, other = [*play(chunks)], [*play(chunks, changes)]
    found = difference(other)
    one, two = _course(real, until), _course(other, until)
    return {
        "settings": {name: value for name, value in _settings(other[-1].breaker.policy).items() if name in changes},
        "in_force": _settings(real[-1].breaker.policy),
        "since": rfc3339(real[0].at),
        "until": rfc3339(until),
        "steps": len(real) - 1,
        "at_first": stand(real[0].breaker),
        "real": one,
        "what_if": two,
        "same": one["turns"] == two["turns"],
        "exact": real[-1].breaker == breaker,
        "calls": _calls(real, found),
    }


def _settings(policy: BreakerPolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in _FIELDS.values()}


def _course(course: Sequence[Played], until: float) -> dict[str, Any]:
    changes, last = turns(course), course[-1]
    now = until - (last.at - last.step[1]) if last.step is not None else 0.0
    return {
        "state": last.breaker.name(now),
        "openings": sum(turn.after in ("open", "forced_open") for turn in changes),
        "open_seconds": round(open_seconds(course, changes, until), 3),
        "turns": [turn_as_data(turn) for turn in changes],
    }


def _calls(real: Sequence[Played], found: Difference) -> dict[str, Any]:
    made = sum(played.step is not None and played.step[0] == "admit" for played in real)
    refused = sum(played.step[3] for played in real if played.step is not None and played.step[0] == "refuse")
    return {
        "made": made,
        "refused": refused,
        "would_be_refused": sum(found.refused.values()),
        "of_these": dict(sorted(found.refused.items())),
        "would_be_let_through": found.let_through,
    }
