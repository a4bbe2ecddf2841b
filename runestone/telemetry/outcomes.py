"""How things end, in the few words that label values may have: the kinds of failures are twenty, of requests' outcomes there is no end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from runestone.domain.failure import TREATMENTS, FailureKind

AttemptClass = Literal["ok", "timeout", "rate_limited", "server_error", "client_error", "network", "cancelled"]
RequestClass = Literal["ok", "client_gone", "client_error", "server_error"]

OK: Final = "ok"
CANCELLED: Final = "cancelled"
OTHER: Final = "other"
REQUEST_CLASSES: Final[tuple[RequestClass, ...]] = ("ok", "client_gone", "client_error", "server_error")
CLASSES: Final[dict[FailureKind, AttemptClass]] = {
    "refused": "network",
    "disconnected": "network",
    "dns": "network",
    "tls": "network",
    "truncated": "network",
    "connect_timeout": "timeout",
    "first_token_timeout": "timeout",
    "timeout": "timeout",
    "idle_timeout": "timeout",
    "server_error": "server_error",
    "overloaded": "server_error",
    "error_event": "server_error",
    "invalid_answer": "server_error",
    "too_large": "server_error",
    "rate_limited": "rate_limited",
    "quota_exceeded": "rate_limited",
    "credentials": "client_error",
    "forbidden": "client_error",
    "not_found": "client_error",
    "caller_error": "client_error",
    "unsupported": "client_error",
}
FAILURE_CLASSES: Final = tuple(dict.fromkeys(CLASSES.values()))
QUARANTINE_REASONS: Final = ("credentials", "quota_exceeded", "forbidden", "not_found")
#: Nobody's fault, or the caller's: it says nothing of the provider.
BLAMELESS: Final = frozenset({CANCELLED, "caller_error", "unsupported"})
_BY_NAME: Final = {OK: OK, CANCELLED: CANCELLED} | {str(kind): name for kind, name in CLASSES.items()}
_OWN_4XX: Final = ("invalid_request", "invalid_api_key", "not_allowed", "model_not_found", "rate_limit_exceeded")
_OWN_5XX: Final = ("no_provider_available", "overloaded", "draining", "timeout", "restarting", "internal_error")
_IN_A_STREAM: Final = ("idle_timeout", "truncated", "error_event", "timeout", "client_gone")
_MOST_OTHERS: Final = 64


def attempt_class(outcome: str) -> str:
    """The class of an upstream call's outcome: ``ok``, ``cancelled``, or that of the kind of its failure."""
    return _BY_NAME.get(outcome, OTHER)


def class_of(status: str, outcome: str) -> RequestClass:
    """The class of a client request's outcome, by the class of its status. A stream that broke after its head is the server's fault."""
    match outcome:
        case "ok" | "client_gone":
            return outcome
        case _:
            return "client_error" if status == "4xx" else "server_error"


def status_class(status: int) -> str:
    """``2xx`` and the like; ``none``: nothing was answered."""
    return f"{status // 100}xx" if status else "none"


def expected_of_requests(*, streams: bool) -> Iterator[tuple[str, str]]:
    """Status class and outcome of what may become of a request, so that the first of each is seen as a change."""
    yield from (("2xx", "ok"), ("none", "client_gone"))
    yield from (("4xx", outcome) for outcome in _OWN_4XX)
    yield from (("5xx", outcome) for outcome in _OWN_5XX)
    yield from ((status_class(treatment.status), kind) for kind, treatment in TREATMENTS.items())
    if streams:
        yield from (("2xx", outcome) for outcome in _IN_A_STREAM)


class Names:
    """Words that may be label values: those that are known, and some more, as they come; beyond those, ``other``."""

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        self._known = known
        self._others: set[str] = set()

    def of(self, word: str) -> str:
        """``word``, if there is room for it."""
        if word in self._known or word in self._others:
            return word
        if len(self._others) >= _MOST_OTHERS:
            return OTHER
        self._others.add(word)
        return word


KNOWN_OUTCOMES: Final = frozenset({"ok", "client_gone", *_OWN_4XX, *_OWN_5XX, *TREATMENTS}) | {
    treatment.code for treatment in TREATMENTS.values()
}
