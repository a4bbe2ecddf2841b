"""Fields of a client's body, read or refused by their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from runestone.domain.conversation import Refused


def number(body: Mapping[str, Any], name: str) -> float | None:
    """A number, or nothing."""
    value = body.get(name)
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise Refused(name, f"{name} must be a number.")


def positive(body: Mapping[str, Any], name: str, where: str | None = None) -> int | None:
    """A whole number above 0, or nothing."""
    value = body.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise Refused(where or name, f"{where or name} must be a positive integer.")


def text(value: object, where: str) -> str:
    """A string."""
    if isinstance(value, str):
        return value
    raise Refused(where, f"{where} must be a string.")


def text_or_none(body: Mapping[str, Any], name: str, where: str | None = None) -> str | None:
    """A string, or nothing."""
    value = body.get(name)
    return None if value is None else text(value, where or name)


def table(value: object, where: str) -> Mapping[str, Any]:
    """A JSON object."""
    if is_table(value):
        return value
    raise Refused(where, f"{where} must be an object.")


def is_table(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether ``value`` is a JSON object."""
    return isinstance(value, Mapping)


def listed(value: object, where: str, what: str) -> list[str]:
    """A list of strings, described by ``what``."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise Refused(where, f"{where} must be {what}.")
