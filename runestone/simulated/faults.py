"""The faults of a simulated provider, and their small language: words and ``name=value`` pairs, separated by spaces."""

from __future__ import annotations

import math
from typing import Any, Final

from attrs import evolve, fields_dict, frozen


@frozen(kw_only=True)
class Fault:
    """What goes wrong, how often, and how answers look otherwise. Times are seconds, ``*_after`` count events of a stream."""

    refused: bool = False  # nobody listens, and connections that wait for a request are closed
    reset: bool = False  # the connection is reset after the request
    stall: bool = False  # no answer ever
    garbage: bool = False  # 200, and nonsense
    empty: bool = False  # 200, and nothing
    error_event: bool = False  # 200, then an error
    no_done: bool = False  # the terminal event is left out
    status: int | None = None  # an error of the wire with this status
    html: int | None = None  # an HTML page with this status
    retry_after: float | None = None  # in the head of the error
    cut_after: int | None = None  # a clean end of the connection
    reset_after: int | None = None
    stall_after: int | None = None
    error_event_after: int | None = None
    slow_first_token: float = 0.0
    pace: float = 0.0  # between the events of a stream
    tokens: int = 12
    rate: float = 1.0  # of the requests that get the fault
    times: int | None = None  # so many requests get it, then no more


NONE: Final = Fault()
_STATUSES: Final = range(200, 600)
_SECONDS: Final = frozenset({"retry_after", "slow_first_token", "pace", "rate"})
_FLAGS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class UnknownFault(ValueError):
    """The text is not a fault; the message says what is."""


def parse(text: str) -> Fault:
    """The fault that ``text`` says, such as ``status=503 times=5``; ``none`` for none. Raises :class:`UnknownFault`."""
    known = fields_dict(Fault)
    values: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if word == "none":
            continue
        if name not in known:
            raise UnknownFault(f"{word!r} is not a fault; there are none, {', '.join(known)}")
        if known[name].default is False:
            values[name] = _flag(name, value if equals else "1")
        else:
            values[name] = _number(name, value)
    return evolve(NONE, **values)


def _flag(name: str, text: str) -> bool:
    if text not in _FLAGS:
        raise UnknownFault(f"{name} is on or off, not {text!r}")
    return _FLAGS[text]


def _number(name: str, text: str) -> float | int:
    try:
        value = float(text) if name in _SECONDS else int(text)
    except ValueError:
        raise UnknownFault(f"{name} needs a number, not {text!r}") from None
    if not 0 <= value < math.inf:
        raise UnknownFault(f"{name} must be 0 or more, not {text!r}")
    if name in ("status", "html") and value not in _STATUSES:
        raise UnknownFault(f"{name} must be an HTTP status from 200 to 599, not {text!r}")
    return value
