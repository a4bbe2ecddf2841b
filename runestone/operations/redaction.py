"""What may be shown of an actor's state: its shape, numbers, and words that are names of this node. No other text leaves it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any, Final

import attrs
from msgspec import Struct

_DEPTH: Final = 4
_ITEMS: Final = 20  # of one container
_VALUES: Final = 400  # of one state


def redacted(state: Mapping[str, Any], names: AbstractSet[str]) -> dict[str, Any]:
    """``state`` as plain data of a bounded size. Its attributes keep their names; of texts those stay that are among ``names``.

    >>> redacted({"_key": "sk-1234", "_calls": {"openai-default": 3, "sk-1234": 1}}, {"openai-default"})
    {'_key': '(text)', '_calls': {'openai-default': 3, '(text)': 1}}
    """
    return _Redaction(names).attributes(state, 0)


class _Redaction:
    def __init__(self, names: AbstractSet[str]) -> None:
        self._names = names
        self._left = _VALUES

    def attributes(self, fields: Mapping[str, Any], depth: int) -> dict[str, Any]:
        return {name: self._value(value, depth + 1) for name, value in fields.items()}

    def _value(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            return "…"
        match value:
            case Enum():
                shown: Any = value.name
            case bool() | int() | float() | None:
                shown = value
            case Decimal():
                shown = str(value)
            case str():
                shown = value if value in self._names else "(text)"
            case bytes() | bytearray():
                shown = "(bytes)"
            case _:
                shown = self._whole(value, depth)
        return shown

    def _whole(self, value: Any, depth: int) -> Any:
        about = f"<{type(value).__name__}>"
        if isinstance(value, Mapping):
            return self._mapping(value, depth) if depth < _DEPTH else f"({len(value)} entries)"
        if isinstance(value, list | tuple | set | frozenset):
            return self._sequence(value, len(value), depth) if depth < _DEPTH else f"({len(value)} values)"
        if depth < _DEPTH and (fields := _fields(type(value))):
            return {"": about, **self.attributes({name: getattr(value, name, None) for name in fields}, depth)}
        return about

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        shown = {
            str(self._value(key, _DEPTH)): self._value(one, depth + 1) for key, one in islice(value.items(), _ITEMS)
        }
        return shown if len(value) <= _ITEMS else {**shown, "…": f"{len(value)} in all"}

    def _sequence(self, values: Iterable[Any], length: int, depth: int) -> list[Any]:
        shown = [self._value(one, depth + 1) for one in islice(values, _ITEMS)]
        return shown if length <= _ITEMS else [*shown, f"… {length} in all"]


def _fields(kind: type) -> tuple[str, ...]:
    if issubclass(kind, Struct):
        return kind.__struct_fields__
    return tuple(field.name for field in attrs.fields(kind)) if attrs.has(kind) else ()
