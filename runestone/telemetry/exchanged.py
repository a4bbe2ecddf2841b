"""What a span tells of a call's request and answer: settings, an id, a model, why the answer ended. Made only for calls that are traced.

Numbers are told as they are, and only those of the right type; of words, only those that can be no text of a person. Stop sequences and
the end user's name are a client's text, and so are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from runestone.telemetry import semconv

Value = str | int | float | tuple[str, ...]

_LONGEST: Final = 200  # characters of a model's name
_MOST_CHOICES: Final = 128
_INTEGERS: Final = 2**63  # OTLP has no larger ones
_DOUBLES: Final = 1e18
_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
_REASON: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ODD: Final = "_OTHER"  # a reason that is no word
_CUT: Final = "error"  # the conventions' word for an answer that was not finished
_ENDS: Final = re.compile(rb'"(?:finish|stop)_reason"\s*:\s*"|"type"\s*:\s*"response\.(?:completed|incomplete|failed)"')
_OVER: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})  # of the status of a response
_OUTPUTS: Final = {"text": "text", "json_object": "json", "json_schema": "json"}


def _integer(value: object) -> int | None:
    return value if type(value) is int and -_INTEGERS <= value < _INTEGERS else None


def _count(value: object) -> int | None:
    number = _integer(value)
    return number if number is not None and number != 1 else None


def _double(value: object) -> float | None:
    return float(value) if type(value) in {int, float} and -_DOUBLES <= value <= _DOUBLES else None  # type: ignore[operator,arg-type]


_SETTINGS: Final[tuple[tuple[str, str, Callable[[object], int | float | None]], ...]] = (
    ("n", semconv.CHOICE_COUNT, _count),
    ("seed", semconv.SEED, _integer),
    ("top_k", semconv.TOP_K, _integer),
    ("max_tokens", semconv.MAX_TOKENS, _integer),
    ("max_output_tokens", semconv.MAX_TOKENS, _integer),
    ("max_completion_tokens", semconv.MAX_TOKENS, _integer),
    ("temperature", semconv.TEMPERATURE, _double),
    ("top_p", semconv.TOP_P, _double),
    ("frequency_penalty", semconv.FREQUENCY_PENALTY, _double),
    ("presence_penalty", semconv.PRESENCE_PENALTY, _double),
)
#: Where the three wires have the form of the output.
_FORMATS: Final = (("response_format",), ("text", "format"), ("output_config", "format"), ("output_format",))


def asked_of(body: Mapping[str, Any], left_out: Collection[str] = ()) -> dict[str, Value]:
    """The settings of a request, by the conventions' names, without the fields ``left_out``, which the provider is not sent."""
    told: dict[str, Value] = {}
    for name, attribute, read in _SETTINGS:
        if (value := body.get(name)) is not None and name not in left_out and (number := read(value)) is not None:
            told[attribute] = number
    for path in _FORMATS:
        if path[0] in body and path[0] not in left_out and (output := _output(body, path)) is not None:
            told[semconv.OUTPUT_TYPE] = output
    return told


def _output(body: Mapping[str, Any], path: tuple[str, ...]) -> str | None:
    found: Any = body
    for name in (*path, "type"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return _OUTPUTS.get(found) if isinstance(found, str) else None


class _Choice(Struct):
    index: Any = 0
    finish_reason: Any = None


class _Why(Struct):
    reason: Any = None
    stop_reason: Any = None


class _Answer(Struct):
    id: Any = None
    model: Any = None
    status: Any = None
    stop_reason: Any = None
    incomplete_details: _Why | None = None
    choices: list[_Choice] | None = None


class _Event(_Answer):
    delta: _Why | None = None
    message: _Answer | None = None
    response: _Answer | None = None


_ANSWER: Final = Decoder(_Answer)
_EVENT: Final = Decoder(_Event)
_Read = TypeVar("_Read")


class Exchanged:
    """What was asked of a provider, and what of its answer's frame has come, in the client's wire."""

    __slots__ = ("_begun", "_reasons", "asked", "id", "model")

    def __init__(self, asked: Mapping[str, Value]) -> None:
        self.asked = asked
        self.id: str | None = None
        self.model: str | None = None
        self._reasons: dict[int, str] = {}  # by choice
        self._begun = False

    def reasons(self, *, whole: bool = True) -> tuple[str, ...] | None:
        """Why each choice ended, in their order: of an answer that is not ``whole``, all that were asked for; ``None`` if none came."""
        if not self._begun:
            return None
        count = 1 if whole else self.asked.get(semconv.CHOICE_COUNT)
        most = max(min(count if isinstance(count, int) else 1, _MOST_CHOICES), 1, *(i + 1 for i in self._reasons))
        return tuple(self._reasons.get(index, _CUT) for index in range(most))

    def whole(self, body: bytes) -> None:
        """Note an answer that is not streamed."""
        self._begun = True
        if (answer := _read(_ANSWER, body)) is not None:
            self._note(answer)

    def part(self, data: bytes) -> None:
        """Note whole events of a stream: its head in the first, and its ends. What lies between is not parsed."""
        head, self._begun = not self._begun, True
        if not head and not _ENDS.search(data):
            return
        for line in data.split(b"\n"):
            if not line.startswith(b"data:") or not ((head and self.id is None) or _ENDS.search(line)):
                continue
            if (event := _read(_EVENT, line[5:])) is None:
                continue
            for answer in (event.message, event.response, event):
                if answer is not None:
                    self._note(answer)
            if event.delta is not None:
                self._ended(0, event.delta.stop_reason)

    def _note(self, answer: _Answer) -> None:
        if self.id is None and isinstance(answer.id, str) and _ID.fullmatch(answer.id):
            self.id = answer.id
        if self.model is None and isinstance(answer.model, str):
            self.model = answer.model[:_LONGEST]
        if isinstance(answer.status, str) and answer.status in _OVER:
            why = answer.incomplete_details
            self._ended(0, answer.status if why is None or why.reason is None else why.reason)
        self._ended(0, answer.stop_reason)
        for choice in answer.choices or ():
            self._ended(choice.index, choice.finish_reason)

    def _ended(self, index: object, reason: object) -> None:
        if reason is None or type(index) is not int or not 0 <= index < _MOST_CHOICES:
            return
        self._reasons[index] = reason if isinstance(reason, str) and _REASON.fullmatch(reason) else _ODD


def _read(decoder: Decoder[_Read], data: bytes) -> _Read | None:
    try:
        return decoder.decode(data)
    except (DecodeError, RecursionError):
        return None
