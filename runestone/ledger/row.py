"""One upstream call as a row of the ledger. Costs are whole picodollars, so that sums are exact."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Final, NamedTuple

from loguru import logger
from msgspec.structs import replace

from runestone.config.settings import Price
from runestone.costs.billing import call_cost, charged
from runestone.costs.rates import MOST_PICODOLLARS, PICODOLLARS
from runestone.domain.chat import Api, Usage
from runestone.domain.secret import looks_secret
from runestone.telemetry.events import AttemptFinished, RequestFinished
from runestone.telemetry.ids import random_bits

_MOST_TOKENS: Final = 2**31 - 1  # of one call; sums of many rows must fit into 64 bits
_MOST_TEXT: Final = 200
_OK: Final = "ok"
_MOST_ANSWERS: Final = 10_000
_AT_ONCE: Final = 128  # rows that are made in one go, some four microseconds each
_TURN_SECONDS: Final = 1e-4
_counts: Final[Callable[[Usage], tuple[Any, ...]]] = attrgetter(
    *(name for name in Usage.__struct_fields__ if name not in ("service_tier", "region", "charged_picodollars"))
)


class Ended(NamedTuple):
    """An upstream call that has ended. A tuple, for one is made for each request, on the event loop."""

    at: float  # epoch seconds
    event: AttemptFinished


class Row(NamedTuple):
    """One row, with an id of its own that begins with the time: written twice, it is booked once.

    Tokens are ``None`` where the provider has told none, the cost where it is not known: neither is ever 0 for that. Nor is what a call
    of an older version has not told. ``input_tokens`` includes ``cached_tokens``, ``cache_write_tokens`` (which includes
    ``cache_write_1h_tokens``) and ``audio_input_tokens``, ``output_tokens`` includes ``reasoning_tokens`` and ``audio_output_tokens``.
    A tuple, for there is one for each call, and databases take tuples. What is true or false is 1 or 0: Python's adapter for SQLite takes
    three times as long for a bool.
    """

    id: bytes
    ended_ms: int
    request_id: str
    number: int  # 1 for the first call of a request
    key_name: str
    group_name: str
    provider: str
    kind: str
    model: str
    api: str
    stream: int
    outcome: str
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_picodollars: int | None
    duration_ms: int
    first_content_ms: int | None
    cache_write_1h_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    web_searches: int | None = None
    service_tier: str | None = None  # one of domain.chat.Tier; a batch is one
    region: str | None = None  # one of domain.chat.Region
    cost_told: int = 0  # the cost is what the provider says that it charges, not a price of ours


class Answer(NamedTuple):
    """What an answer that was whole has cost, in picodollars, whether the provider has told that, and its usage where that can be."""

    usage: Usage
    possible: Usage
    model: str
    cost: int | None
    told: bool


#: Answers that were priced for the log and not for the ledger yet, by the id of their usage, which both events hold. For all threads.
Answers = dict[int, Answer]
COLUMNS: Final = Row._fields
_row: Final[Callable[[tuple[Any, ...]], Row]] = partial(tuple.__new__, Row)  # what _make() does, a third of the time
_OF_USAGE: Final = tuple(name for name in COLUMNS if name in Usage.__struct_fields__)
_of_usage: Final[Callable[[Usage], tuple[Any, ...]]] = attrgetter(*_OF_USAGE)
_FIRST_TOKENS: Final = COLUMNS.index("cost_picodollars") - COLUMNS.index(_OF_USAGE[0])  # of them stand before the cost
_UNTOLD: Final[tuple[Any, ...]] = (None,) * len(_OF_USAGE)


def priced(ended: Ended, own: Mapping[str, Price], answers: Answers) -> Row:
    """The row of a call, with its price: slow, not for the event loop. ``own`` are the operator's prices."""
    event = ended.event
    ended_ms = int(ended.at * 1000)
    first = event.first_content_seconds
    usage: Usage | None
    known = answers.pop(id(event.usage), None)
    if known is not None and known.usage is event.usage and event.outcome == _OK and event.model == known.model:
        _, usage, _, cost, told = known
    else:
        usage = _told(event.usage)
        charge = charged(usage, api=event.api, model=event.model, own=own)
        cost, told = (_cost(ended, usage, own), False) if charge is None else (charge, True)
    model, key, group, provider, kind, outcome = _words(
        event.model, event.key, event.group, event.provider, event.kind, event.outcome
    )
    tokens = _UNTOLD if usage is None else _of_usage(usage)
    row = (  # by place, in the order of the fields: names take as long again as all the rest
        (ended_ms << 80 | random_bits(80)).to_bytes(16, "big"),
        ended_ms,
        _text(event.request_id),
        event.number,
        key,
        group,
        provider,
        kind,
        model,
        event.api,
        1 if event.stream else 0,
        outcome,
        *tokens[:_FIRST_TOKENS],
        cost,
        round(event.duration_seconds * 1000),
        None if first is None else round(first * 1000),
        *tokens[_FIRST_TOKENS:],
        1 if told else 0,
    )
    return _row(row)


@lru_cache(maxsize=1024)
def _words(model: str, *others: str) -> tuple[str, ...]:
    """As they stand in a row. The same come again with each call."""
    return "***" if looks_secret(model) else _text(model), *map(_text, others)


def answer_cost(done: RequestFinished, own: Mapping[str, Price], at_epoch: float, answers: Answers) -> float | None:
    """US dollars for the call that has answered a request; ``None``: not known. Not for the event loop.

    What was found is left in ``answers``: the ledger need not find it again.
    """
    usage, model, kind = _told(done.usage), done.model, done.kind
    if usage is None or model is None or kind is None:
        return None
    api: Api = "count_tokens" if done.route.endswith("/count_tokens") else "chat"
    charge = cost = charged(usage, api=api, model=model, own=own)
    if charge is None:
        cost = _booked(done.outcome, usage, True, api, kind, model, own, at_epoch)  # noqa: FBT003 - it has answered
    if done.outcome == _OK and done.usage is not None:
        if len(answers) >= _MOST_ANSWERS:
            answers.clear()
        answers[id(done.usage)] = Answer(done.usage, usage, model, cost, charge is not None)
    return None if cost is None else cost / PICODOLLARS


def all_priced(calls: list[Ended], own: Mapping[str, Price], answers: Answers) -> list[Row]:
    """The rows of ``calls``. After some of them everybody else has a turn: a thread that computes makes the event loop wait for the
    interpreter at each of its system calls. A turn costs more than a row.
    """
    rows = []
    for begin in range(0, len(calls), _AT_ONCE):
        rows += [priced(ended, own, answers) for ended in calls[begin : begin + _AT_ONCE]]
        time.sleep(_TURN_SECONDS)
    return rows


def _cost(ended: Ended, usage: Usage | None, own: Mapping[str, Price]) -> int | None:
    event = ended.event
    if event.usage is not None and usage is None:
        return None  # what it has told cannot be
    content = event.first_content_seconds is not None
    return _booked(event.outcome, usage, content, event.api, event.kind, event.model, own, ended.at)


def _booked(  # noqa: PLR0917 - of two sorts of events
    outcome: str,
    usage: Usage | None,
    content: bool,  # noqa: FBT001 - as in an event
    api: Api,
    kind: str,
    model: str,
    own: Mapping[str, Price],
    at_epoch: float,
) -> int | None:
    """:func:`call_cost`; ``None`` where it breaks."""
    try:
        return call_cost(outcome, usage, content=content, api=api, kind=kind, model=model, own=own, at_epoch=at_epoch)
    except Exception as error:  # noqa: BLE001 - one call that a list of prices cannot take must not hold up the books
        logger.error("a call has no price: {}", type(error).__name__)
        return None


def _told(usage: Usage | None) -> Usage | None:
    """What a provider says, where it is possible."""
    if usage is None:
        return None
    for count in _counts(usage):
        if type(count) is not int or not 0 <= count <= _MOST_TOKENS:
            return None
    charge = usage.charged_picodollars
    return usage if charge is None or 0 <= charge <= MOST_PICODOLLARS else replace(usage, charged_picodollars=None)


def _text(text: str) -> str:
    """As a database takes it: no half characters, no NUL, not a book. A model's name is the client's word."""
    if len(text) <= _MOST_TEXT and text.isascii() and "\0" not in text:
        return text
    return text[:_MOST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
