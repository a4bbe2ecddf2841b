"""What both databases have in common: the columns, and the questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from runestone.ledger.report import MOST_LINES, PERIODS, By, Line, Query, name_of

_BY: Final[dict[By, str]] = {"key": "key_name", "group": "group_name", "tier": "coalesce(service_tier, 'unknown')"}
_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cache_write_1h_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "web_searches",
)
#: A sum of picodollars may be more than 64 bits hold; microdollars and the rest of them are not.
_MICRO: Final = 1_000_000
_SUMS: Final = ", ".join(
    (
        "count(*)",
        "sum(CASE WHEN number = 1 THEN 1 ELSE 0 END)",
        *(f"sum({name})" for name in _COUNTS),
        f"sum(cost_picodollars / {_MICRO})",
        f"sum(cost_picodollars % {_MICRO})",
        "sum(CASE WHEN cost_picodollars IS NULL THEN 1 ELSE 0 END)",
        "sum(CASE WHEN service_tier = 'batch' THEN 1 ELSE 0 END)",
        "sum(CASE WHEN cost_told THEN 1 ELSE 0 END)",
    )
)


def lines_of(query: Query, table: str, since: str, until: str) -> str:
    """The SELECT of the lines; ``since`` and ``until`` are how the database writes its two parameters."""
    group, order = _BY.get(query.by, query.by), f"sum(cost_picodollars / {_MICRO}) DESC NULLS LAST, 1"
    if query.by in PERIODS:
        group, order = f"ended_ms / {PERIODS[query.by][0]}", "1 DESC"
    where = f"ended_ms >= {since} AND ended_ms < {until}"
    return f"SELECT {group}, {_SUMS} FROM {table} WHERE {where} GROUP BY 1 ORDER BY {order} LIMIT {MOST_LINES}"  # noqa: S608 - words of this program


def total_of(table: str, since: str, until: str) -> str:
    """The SELECT of the total."""
    return f"SELECT 'total', {_SUMS} FROM {table} WHERE ended_ms >= {since} AND ended_ms < {until}"  # noqa: S608 - likewise


def line(by: By | None, values: Sequence[Any]) -> Line:
    """One row of either SELECT; ``by`` is ``None`` for the total."""
    name, calls, requests, *told, micro, rest, unknown, batch, said = values
    counts = dict(zip(_COUNTS, (int(count or 0) for count in told), strict=True))
    return Line(
        name=str(name) if by is None else name_of(by, name),
        calls=int(calls),
        requests=int(requests or 0),
        **counts,
        cost_picodollars=None if micro is None else int(micro) * _MICRO + int(rest),
        unknown_cost_calls=int(unknown or 0),
        batch_calls=int(batch or 0),
        told_cost_calls=int(said or 0),
    )


def newer(what: str, version: int, known: int) -> str:
    """Why a database is refused that a newer program has made."""
    return (
        f"the {what} is of a newer version ({version}; this one knows {known}): run the runestone that made it, or a newer one, "
        "or set ledger.url to another place"
    )
