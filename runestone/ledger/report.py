"""What a report of the ledger is: who asks for which time, the lines, their total. Pure: stores fetch, this adds up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import attrs
from attrs import frozen

from runestone.costs.rates import PICODOLLARS

By = Literal["provider", "model", "key", "group", "outcome", "tier", "day", "hour"]
BY: Final[tuple[By, ...]] = get_args(By)
MOST_LINES: Final = 1000  # a model's name is the client's word: there may be any number of them
OTHERS: Final = "(others)"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO: Final = re.compile(r"([0-9]{1,9})([smhdw])")
#: Milliseconds of a day and an hour, by which times are grouped, and how each is told.
PERIODS: Final[dict[By, tuple[int, str]]] = {"day": (86_400_000, "%Y-%m-%d"), "hour": (3_600_000, "%Y-%m-%dT%H:00Z")}
MOMENT: Final = "a time ago such as 90m, 24h or 7d, or a date such as 2026-11-01 or 2026-11-01T08:30 (UTC)"


@frozen(kw_only=True)
class Query:
    """The calls that ended from ``since_ms`` on and before ``until_ms``, by what."""

    since_ms: int
    until_ms: int
    by: By


@frozen(kw_only=True)
class Line:
    """Some calls, added up. ``requests`` are those whose first call is among them, so that each counts once.

    ``cost_picodollars`` is what the calls of known cost have cost; ``None``: no cost of them is known. ``told_cost_calls`` are those whose
    cost is what the provider has said.
    """

    name: str
    calls: int
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_picodollars: int | None
    unknown_cost_calls: int
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    web_searches: int = 0
    batch_calls: int = 0
    told_cost_calls: int = 0

    def as_data(self) -> dict[str, Any]:
        """For JSON; the cost in dollars, exactly."""
        data = attrs.asdict(self)
        data["cost_usd"] = dollars(data.pop("cost_picodollars"))
        return data


@frozen(kw_only=True)
class Costs:
    """The answer to a query."""

    query: Query
    lines: tuple[Line, ...]
    total: Line

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "since": told(self.query.since_ms),
            "until": told(self.query.until_ms),
            "by": self.query.by,
            "costs": [line.as_data() for line in self.lines],
            "total": self.total.as_data(),
        }


def costs(query: Query, lines: Sequence[Line], total: Line) -> Costs:
    """``lines`` as the store gives them, and what they leave of ``total`` as one more: the lines always add up to it."""
    left = total.calls - sum(line.calls for line in lines)
    return Costs(query=query, lines=(*lines, *((_rest(lines, total),) if left else ())), total=total)


def _rest(lines: Sequence[Line], total: Line) -> Line:
    left: dict[str, Any] = {}
    for name, value in attrs.asdict(total).items():
        if name != "name":
            left[name] = (value or 0) - sum(getattr(line, name) or 0 for line in lines)
    if left["unknown_cost_calls"] == left["calls"]:
        left["cost_picodollars"] = None
    return Line(name=OTHERS, **left)


def name_of(by: By, value: Any) -> str:
    """How one group of a query is called; of a period its beginning."""
    if by in PERIODS:
        milliseconds, form = PERIODS[by]
        return datetime.fromtimestamp(value * milliseconds // 1000, UTC).strftime(form)
    return str(value)


def dollars(picodollars: int | None) -> str | None:
    """Exactly, without an exponent."""
    if picodollars is None:
        return None
    whole, part = divmod(picodollars, PICODOLLARS)
    return f"{whole}.{part:012}".rstrip("0").rstrip(".")


def moment(text: str, now_ms: int) -> int:
    """Milliseconds since the epoch for a time ago (``90m``, ``24h``, ``7d``) or a date, in UTC. Raises ``ValueError``."""
    if (match := _AGO.fullmatch(text)) is not None:
        return max(0, now_ms - int(match[1]) * _UNITS[match[2]] * 1000)
    found = datetime.fromisoformat(text)
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    return max(0, round(found.timestamp() * 1000))


def told(milliseconds: int) -> str:
    """A moment as ISO 8601 has it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
