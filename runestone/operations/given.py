"""What a caller gives with an act, checked: what cannot be used is refused with what may be given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runestone.operations.errors import OperationError

Body = Mapping[str, Any]


def seconds(body: Body, most: float) -> float | None:
    """``seconds``, a number above 0 and ``most`` at most; ``None``: it is not given."""
    value = body.get("seconds")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most or math.isnan(value):
        raise OperationError("refused", f"seconds must be a number above 0, {most:g} at most")
    return float(value)


def flag(body: Body, key: str) -> bool:
    """True or false; not given it is false."""
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise OperationError("refused", f"{key} must be true or false")
    return value


def text(body: Body, key: str) -> str | None:
    """A string that is not empty; ``None``: it is not given."""
    value = body.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise OperationError("refused", f"{key} must be a string that is not empty")
    return value


def texts(body: Body, key: str) -> list[str]:
    """Strings, one at least."""
    value = body.get(key)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) and one for one in value):
        raise OperationError("refused", f"{key} must be a list of strings that are not empty")
    return list(value)
