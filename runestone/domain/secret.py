"""A value that no rendering shows."""

from __future__ import annotations

import hmac
import re
from typing import Final, NoReturn

_MASK: Final = "***"
KEY_BEGINNINGS: Final = ("sk-", "gsk_", "xai-", "pplx-", "nvapi-", "AIza")
"""What the keys of known vendors begin with."""
ANY_KEY_BEGINS: Final = f"(?:{'|'.join(KEY_BEGINNINGS)})"
"""The same as a part of a regular expression."""
_KEY: Final = re.compile(rf"\b{ANY_KEY_BEGINS}[\w*.-]{{4,}}")


def looks_secret(text: str) -> bool:
    """Whether a key of a known vendor stands in ``text``: somebody has put it in the wrong place."""
    return _KEY.search(text) is not None


class Secret:
    """Holds a key. Only :meth:`reveal` gives it; text, logs, copies of data and pickles do not."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return _MASK

    def __str__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return format(_MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")
