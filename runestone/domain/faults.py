"""The faults of a provider, simulated or put in front of a real one, in a small language: words and ``name=value`` pairs.

As one would say them: ``503 30% seed=7``, ``stall after=3``, ``cut at=1234``, ``status=529 times=2``, ``slow=0.01``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, evolve, field, fields_dict, frozen


@frozen(kw_only=True)
class Fault:
    """What goes wrong, how often, and how answers look otherwise.

    Times are seconds, ``*_after`` count events of a stream, ``*_at`` bytes of any body: what is sent before is exactly that much.
    """

    refused: bool = False  # nobody listens, and connections that wait for a request are closed
    reset: bool = False  # the connection is reset after the request
    cut: bool = False  # it is closed instead, without an answer
    stall: bool = False  # no answer ever
    garbage: bool = False  # 200, and nonsense
    invalid_json: bool = False  # 200, and JSON that is not complete
    empty: bool = False  # 200, and nothing
    error_event: bool = False  # 200, then an error
    no_done: bool = False  # the terminal event is left out
    done_twice: bool = False  # it comes twice, and content behind it
    endless_head: bool = False  # headers for ever
    endless_line: bool = False  # 200, and one event, or one string, for ever
    comments: bool = False  # 200, and comments, or white space, for ever
    gzip_bomb: bool = False  # 200, compressed, for ever: a thousandth of what it would be
    status: int | None = None  # an error of the wire with this status
    html: int | None = None  # an HTML page with this status
    redirect: int | None = None  # to the same place, with this status
    many_headers: int | None = None  # in the head of a good answer
    wrong_length: int | None = None  # by how much the told length differs from that of the body
    retry_after: float | None = None  # in the head of the error
    cut_after: int | None = None  # a clean end of the connection
    reset_after: int | None = None
    stall_after: int | None = None
    error_event_after: int | None = None
    invalid_json_after: int | None = None
    cut_at: int | None = None
    reset_at: int | None = None
    stall_at: int | None = None
    slow: float = 0.0  # between the bytes of a body
    slow_first_token: float = 0.0
    pace: float = 0.0  # between the events of a stream
    tokens: int = 12
    rate: float = 1.0  # of the requests that get the fault
    seed: int | None = None  # of the rate: the same ones each time
    times: int | None = None  # so many requests get it, then no more


NONE: Final = Fault()
_STATUSES: Final = range(200, 600)
_SECONDS: Final = frozenset({"retry_after", "slow", "slow_first_token", "pace"})
_FLAGS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_ALONE: Final = {"html": "200", "redirect": "307", "many_headers": "1000", "wrong_length": "10", "slow": "0.01"}
_KNOWN: Final = fields_dict(Fault)
_WHEN: Final = ("after", "at")
_FORMS: Final = (
    "a status such as 503, a rate such as 30%, and after= or at= behind cut, reset, stall, error_event, invalid_json"
)


@define(eq=False)
class Draw:
    """Which requests get ``fault``: its rate and its count decide. ``chance`` gives random numbers in 0 to 1."""

    fault: Fault
    chance: Callable[[], float] = field(repr=False)
    left: int | None = field(init=False)  # so many more may get it; None: any number

    @left.default
    def _times(self) -> int | None:
        return self.fault.times

    def next(self) -> Fault:
        """The fault of the next request; how answers look otherwise stays as it is."""
        if self.left == 0 or self.chance() >= self.fault.rate:
            return Fault(pace=self.fault.pace, tokens=self.fault.tokens)
        if self.left is not None:
            self.left -= 1
        return self.fault


class UnknownFault(ValueError):
    """The text is not a fault; the message says what is."""


def parse(text: str) -> Fault:
    """The fault that ``text`` says, such as ``503 times=5``; ``none`` for none. Raises :class:`UnknownFault`."""
    values: dict[str, Any] = {}
    before = ""
    for word in text.split():
        if word == "none":
            continue
        name, value = _pair(word, before)
        if name not in _KNOWN:
            raise UnknownFault(f"{word!r} is not a fault; there are none, {', '.join(_KNOWN)}; also {_FORMS}")
        if name != before and name in (f"{before}_after", f"{before}_at"):
            values.pop(before, None)  # it happens later, so not at once
        values[name] = _flag(name, value) if _KNOWN[name].default is False else _number(name, value)
        before = name
    return evolve(NONE, **values)


def words(said: Sequence[str]) -> list[str]:
    """What may be said behind ``said``; a number comes where an equals sign ends it."""
    names = [word.partition("=")[0] for word in said]
    if "none" in names:
        return []
    later = [f"{when}=" for when in _WHEN if names and f"{names[-1]}_{when}" in _KNOWN]
    first = [name for name in _KNOWN if name.rpartition("_")[0] not in _KNOWN or name.rpartition("_")[2] not in _WHEN]
    alone = (name if name in _ALONE or _KNOWN[name].default is False else f"{name}=" for name in first)
    return [*later, *(() if said else ("none",)), *(word for word in alone if word.rstrip("=") not in names)]


def differences(fault: Fault) -> list[str]:
    """The names of what ``fault`` says, in the order in which they are known."""
    return [name for name in _KNOWN if getattr(fault, name) != getattr(NONE, name)]


def _pair(word: str, before: str) -> tuple[str, str]:
    """The name and the value that ``word`` stands for; ``before`` is the name that it follows."""
    if word.isdecimal():
        return "status", word
    if word.endswith("%") and "=" not in word:
        return "rate", word
    name, equals, value = word.partition("=")
    if equals:
        return (f"{before}_{name}" if name in _WHEN else name), value
    return name, _ALONE.get(name, "1" if name in _KNOWN and _KNOWN[name].default is False else "")


def _flag(name: str, text: str) -> bool:
    if text not in _FLAGS:
        raise UnknownFault(f"{name} is on or off, not {text!r}")
    return _FLAGS[text]


def _fraction(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def _number(name: str, text: str) -> float | int:
    try:
        value = _fraction(text) if name == "rate" else float(text) if name in _SECONDS else int(text)
    except ValueError:
        raise UnknownFault(f"{name} needs a number, not {text!r}") from None
    if not (0 <= value < math.inf or name == "wrong_length"):
        raise UnknownFault(f"{name} must be 0 or more, not {text!r}")
    if name in ("status", "html", "redirect") and value not in _STATUSES:
        raise UnknownFault(f"{name} must be an HTTP status from 200 to 599, not {text!r}")
    return value
