"""The faults of a simulated provider, and their small language: words and ``name=value`` pairs, separated by spaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import evolve, fields_dict, frozen


@frozen(kw_only=True)
class Fault:
    """What goes wrong, how often, and how answers look otherwise. Times are seconds, ``*_after`` count events of a stream."""

    refused: bool = False  # nobody listens
    reset: bool = False  # the connection is reset after the request
    stall: bool = False  # no answer ever
    garbage: bool = False  # 200, and nonsense
    empty: bool = False  # 200, and nothing
    error_event: bool = False  # 200, then an error
    no_done: bool = False  # the terminal event is left out
    status: int | None = None
    html: int | None = None  # an HTML page with this status
    retry_after: float | None = None
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
        values[name] = (
            _value(name, value, flag=known[name].default is False)
            if equals or known[name].default is not False
            else True
        )
    return evolve(NONE, **values)


def _value(name: str, text: str, *, flag: bool) -> float | int | bool:
    kinds: dict[str, Callable[[str], float]] = dict.fromkeys(("retry_after", "slow_first_token", "pace", "rate"), float)
    if flag:
        return text not in ("0", "false", "no")
    try:
        value = kinds.get(name, int)(text)
    except ValueError:
        raise UnknownFault(f"{name} needs a number, not {text!r}") from None
    if value < 0:
        raise UnknownFault(f"{name} cannot be negative")
    return value
