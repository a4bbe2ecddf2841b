"""Which headers of a provider's answer reach the client."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

Headers = tuple[tuple[bytes, bytes], ...]

_LIMITS: Final = (b"x-ratelimit-", b"anthropic-ratelimit-")
_IDS: Final = frozenset({b"x-request-id", b"request-id"})
_PLAIN: Final = re.compile(rb"[\x20-\x7e\t]*")


def passed_on(raw: Iterable[tuple[bytes, bytes]], *, same_wire: bool) -> Headers:
    """The provider's own id of the request, and to a client of the same wire its rate limits. Never cookies, nor who we are there."""
    out: list[tuple[bytes, bytes]] = []
    for given, value in raw:
        name = given.lower()
        if name in _IDS:
            name = b"x-upstream-request-id"
        elif not (same_wire and name.startswith(_LIMITS)):
            continue
        if _PLAIN.fullmatch(value):
            out.append((name, value))
    return tuple(out)
