"""Headers both ways: what a provider is sent, and what of its answer reaches the client."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from runestone.domain.chat import ChatRequest

Headers = tuple[tuple[bytes, bytes], ...]

_LIMITS: Final = (b"x-ratelimit-", b"anthropic-ratelimit-")
_NUMBER: Final = re.compile(rb"[0-9]{1,15}")
_IDS: Final = frozenset({b"x-request-id", b"request-id"})
_PLAIN: Final = re.compile(rb"[\x20-\x7e\t]*")


def request_head(
    chat: ChatRequest, credentials: Mapping[str, str], extra: Mapping[str, str], forwarded: Iterable[str] = ()
) -> tuple[tuple[str, str], ...]:
    """The head of a request: the client's own headers that are ``forwarded``, who asks, and the ``extra`` ones that the settings give."""
    head = {
        "content-type": "application/json",
        "accept": "text/event-stream" if chat.stream else "application/json",
        "accept-encoding": "identity",
        **credentials,
    }
    for name in forwarded:
        if name in chat.headers:
            head[name] = chat.headers[name]
    for name, value in extra.items():
        head[name.lower()] = value
    return tuple(head.items())


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


def headroom(raw: Iterable[tuple[bytes, bytes]]) -> float | None:
    """What an answer says is left of the provider's rate limit: the least of all ``remaining / limit``, 0 to 1; ``None``: it does not say.

    OpenAI names them ``x-ratelimit-remaining-requests`` and ``x-ratelimit-limit-requests``, Anthropic
    ``anthropic-ratelimit-requests-remaining`` and ``...-limit``; both count requests and kinds of tokens apart.
    """
    limits: dict[bytes, bytes] = {}
    for given, value in raw:
        if len(given) > len(_LIMITS[0]) and (name := given.lower()).startswith(_LIMITS) and _NUMBER.fullmatch(value):
            limits[name] = value
    least: float | None = None
    for name, value in limits.items():
        if b"remaining" in name and (limit := int(limits.get(name.replace(b"remaining", b"limit"), b"0"))):
            left = min(int(value) / limit, 1.0)
            least = left if least is None else min(least, left)
    return least
