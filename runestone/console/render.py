"""What ``ctl`` prints for people: plain text, one fact a column, nothing that a terminal must support."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final

_HEADER: Final[ContextVar[bool]] = ContextVar("header", default=True)
_WIDE: Final[ContextVar[bool]] = ContextVar("wide", default=False)


@contextmanager
def style(*, header: bool = True, wide: bool = False) -> Iterator[None]:
    """How tables are made in the block: without their ``header``, or ``wide``, with everything about their rows that is one value."""
    told, every = _HEADER.set(header), _WIDE.set(wide)
    try:
        yield
    finally:
        _HEADER.reset(told)
        _WIDE.reset(every)


class Table(str):
    """Aligned columns, which still know their ``rows`` and the text of their ``cells``, the titles first, for who draws them otherwise."""

    __slots__ = ("cells", "rows")
    rows: Sequence[Mapping[str, Any]]
    cells: Sequence[Sequence[str]]


_DRAW: Final[ContextVar[Callable[[Table], str] | None]] = ContextVar("draw", default=None)


@contextmanager
def drawing(draw: Callable[[Table], str]) -> Iterator[None]:
    """What ``draw`` makes of a table stands in its place in all that is rendered in the block."""
    before = _DRAW.set(draw)
    try:
        yield
    finally:
        _DRAW.reset(before)


def _drawable(make: Callable[[Sequence[Mapping[str, Any]], Sequence[str]], Table]) -> Callable[..., str]:
    @wraps(make)
    def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
        made, draw = make(rows, columns), _DRAW.get()
        return made if draw is None else draw(made)

    return table


@_drawable
def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """``rows`` as aligned columns under their names, as :func:`style` says."""
    if _WIDE.get():
        more = dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, list | Mapping))
        columns = (*columns, *(name for name in more if name not in columns))
    cells = [
        [name.upper().replace("_", " ") for name in columns],
        *([cell(row.get(c)) for c in columns] for row in rows),
    ]
    shown = cells if _HEADER.get() else cells[1:]
    widths = [max((len(line[i]) for line in shown), default=0) for i in range(len(columns))]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in shown)
    drawn = Table("\n".join(lines))
    drawn.rows, drawn.cells = rows, cells
    return drawn


def facts(data: Mapping[str, Any]) -> str:
    """One fact a line."""
    width = max((len(key) for key in data), default=0)
    return "\n".join(f"{key.replace('_', ' ').ljust(width)}  {cell(value)}" for key, value in data.items())


def outline(data: Mapping[str, Any], margin: str = "") -> str:
    """One fact a line under its own name, and what is in it below it; what a mapping is itself has the empty name."""
    lines = []
    for key, value in data.items():
        if key and isinstance(value, Mapping):
            own = f"  {cell(value[''])}" if "" in value else "" if value else "  -"
            lines += [f"{margin}{key}{own}", *filter(None, [outline(value, margin + "  ")])]
        elif key:
            lines.append(f"{margin}{key}  {cell(value)}")
    return "\n".join(lines)


def status(data: Mapping[str, Any]) -> str:
    """The node on one screen, and below it what is wrong, with the command that helps."""
    told = facts({key: value for key, value in data.items() if key not in ("v", "alerts")})
    lines = [f"{a['severity']}: {a['message']} (since {a['since']})\n  {a['command']}" for a in data["alerts"]]
    return "\n".join((told, *(("", *lines) if lines else ())))


def metrics(data: Mapping[str, Any]) -> str:
    """One provider's figures, or a table of all and the node's own."""
    if "providers" not in data:
        return facts(data)
    rows = [{"provider": name, **found, **_latencies(found)} for name, found in data["providers"].items()]
    return f"{table(rows, _METRICS)}\n\n{facts(data['node'])}"


_METRICS = (
    "provider",
    "status",
    "health_score",
    "in_flight",
    "attempts",
    "success_rate",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "first_p50_ms",
    "first_p95_ms",
    "cost_usd",
)


def _latencies(found: Mapping[str, Any]) -> dict[str, Any]:
    """Percentiles of the last minute, each with a name of its own."""
    whole, first = found.get("latency_ms", {}), found.get("first_content_ms", {})
    return {f"{p}_ms": value for p, value in whole.items()} | {f"first_{p}_ms": value for p, value in first.items()}


def tree(node: Mapping[str, Any], prefix: str = "") -> str:
    """The supervision tree, drawn."""
    lines = [_node(node)]
    children = list(node["children"])
    for index, child in enumerate(children):
        last = index == len(children) - 1
        drawn = tree(child).split("\n")
        lines.append(prefix + ("└─ " if last else "├─ ") + drawn[0])
        lines += [prefix + ("   " if last else "│  ") + line for line in drawn[1:]]
    return "\n".join(lines)


def explanation(data: Mapping[str, Any]) -> str:
    """A group's decision: the candidates in their order, each with what speaks for or against it."""
    told = facts({key: value for key, value in data.items() if key != "candidates"})
    return (
        told + "\n\n" + table(data["candidates"], tuple(data["candidates"][0]) if data["candidates"] else ("provider",))
    )


def event(data: Mapping[str, Any]) -> str:
    """One recorded event, on a line."""
    at = datetime.fromtimestamp(data["at"], UTC).astimezone()
    rest = (f"{k}={cell(v)}" for k, v in data.items() if k not in ("seq", "at", "event") and v not in (None, "", []))
    return " ".join((str(data["seq"]), f"{at:%H:%M:%S}.{at.microsecond // 1000:03}", data["event"], *rest))


def estimates(data: Mapping[str, Any]) -> str:
    """What a request would cost, a provider a line."""
    return table(estimated(data), ("provider", "cost_usd", "model", "input_tokens", "output_tokens", "exact"))


def estimated(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same, provider by provider."""
    return [
        {"provider": name, "cost_usd": dollars, **(data["tokens"][name] or {})}
        for name, dollars in data["costs"].items()
    ]


def costs(data: Mapping[str, Any]) -> str:
    """What calls have cost, a line each and the total. Names may be the words of clients: what moves a terminal's cursor is not printed."""
    by = data["by"]
    rows = [
        {by: "".join(c if c.isprintable() else "\ufffd" for c in name), **counts}
        for name, counts in [_apart(row) for row in data["costs"]] + [("TOTAL", _apart(data["total"])[1])]
    ]
    about = f"calls that ended from {data['since']} to {data['until']}"
    waiting = data["ledger"]["waiting"]
    if waiting or data["ledger"]["dropped"]:
        about += f"; {waiting} more wait for the ledger, {data['ledger']['dropped']} are lost to it"
    return f"{about}\n\n" + table(rows, (by, *_COSTS))


_COSTS = (
    "calls",
    "requests",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "unknown_cost_calls",
    "cost_usd",
)


def _apart(line: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of a line, and what it counts."""
    return line["name"], {key: value for key, value in line.items() if key != "name"}


def _node(node: Mapping[str, Any]) -> str:
    parts = [str(node["id"])]
    if node.get("strategy"):
        parts.append(f"({node['strategy']})")
    if node["state"] != "running":
        parts.append(str(node["state"]).upper())
    if node.get("restarts"):
        parts.append(f"restarts={node['restarts']}")
    depth = (node.get("mailbox") or {}).get("depth")
    if depth:
        parts.append(f"mailbox={depth}")
    return " ".join(parts)


def cell(value: Any) -> str:
    """One value, on a line."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float() if 0 < abs(value) < 1e-4:
            return f"{value:.9f}".rstrip("0").rstrip(".")
        case Mapping():
            return ", ".join(f"{k}={cell(v)}" for k, v in value.items()) or "-"
        case list():
            return ", ".join(cell(v) for v in value) or "-"
        case _:
            return str(value)
