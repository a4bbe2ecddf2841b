"""A body as JSON, and everything that is no JSON refused: what two readers could take for two things never reaches a provider."""

from __future__ import annotations

from typing import Any, Final

import jiter

from runestone.domain.errors import InvalidRequest

_VALUES: Final = 1_000_000  # in one body; what is parsed takes a hundred times the bytes of an empty list
_LEAST, _MOST = -(2**63), 2**64 - 1  # of an integer that every JSON library can say again


def parsed(raw: bytes) -> dict[str, Any]:
    """The object in ``raw``. Nesting ends at 200 levels.

    Raises:
        InvalidRequest: it is not JSON, or none that everybody reads alike: a key that occurs twice, NaN, half a surrogate pair, a number
            out of range.
    """
    if raw.count(b",") + raw.count(b"[") > _VALUES:
        raise InvalidRequest(f"The body holds more than {_VALUES} values. Send fewer.", code="invalid_json")
    try:
        data: Any = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    if not _in_range(data):
        raise InvalidRequest("The body holds a number that is out of range.", code="invalid_json")
    return data


def _in_range(data: Any) -> bool:
    """Integers of 64 bits and finite fractions: others become other numbers, or none, on their way."""
    left = [data]
    while left:
        value = left.pop()
        kind = type(value)
        if kind is dict:
            left.extend(value.values())
        elif kind is list:
            left.extend(value)
        elif (kind is int and not _LEAST <= value <= _MOST) or (kind is float and value - value != 0.0):
            return False
    return True
