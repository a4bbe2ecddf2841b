"""The commands about single requests: the last ones, and the way of each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from runestone.console import render
from runestone.console.commands import Argument, Command, at_most

_COLUMNS = (
    "at",
    "id",
    "asked",
    "key",
    "group",
    "providers",
    "attempts",
    "status",
    "outcome",
    "first_content_ms",
    "duration_ms",
    "waited_ms",
    "tokens",
    "cost_usd",
)
_LEGS = (
    "number",
    "provider",
    "model",
    "breaker",
    "why",
    "gap_ms",
    "waited_ms",
    "first_content_ms",
    "duration_ms",
    "outcome",
    "tokens",
    "cost_usd",
)


def listed(data: Mapping[str, Any]) -> str:
    """A line for each request, and how far the memory reaches."""
    rows = [
        {
            **_told(row),
            "at": clock(row["at"]),
            "asked": row["asked"] or row["route"],
            "outcome": row["outcome"] or "(in flight)",
        }
        for row in data["requests"]
    ]
    about = f"{len(rows)} of {data['matching']} requests; {data['in_flight']} in flight; {_reach(data)}"
    return f"{render.table(rows, _COLUMNS)}\n\n{about}"


def story(data: Mapping[str, Any]) -> str:
    """The way of one request."""
    row = data["request"]
    parts = [render.facts({**row, "outcome": row["outcome"] or "(in flight)"})]
    if data["attempts"]:
        parts.append(render.table([_told(leg) for leg in data["attempts"]], _LEGS))
    lines = [f"call {leg['number']} came after {_refused(r)}" for leg in data["attempts"] for r in leg["refusals"]]
    lines += [f"not called: {one['provider']}: {one['why']}" for one in data["passed_over"]]
    for end in data["exhausted"]:
        whom = "; ".join(map(_refused, end["refusals"]))
        lines.append(f"{clock(end['at'])} nobody was left ({end['reason']}){f': {whom}' if whom else ''}")
    if lines:
        parts.append("\n".join(lines))
    if data["meanwhile"]:
        parts.append("\n".join(("meanwhile", *(f"  {render.event(event)}" for event in data["meanwhile"]))))
    if data["same_id"]:
        parts.append(f"{data['same_id']} earlier requests had the same id; this is the last")
    return "\n\n".join(parts)


def clock(at: str) -> str:
    """A moment as people here read it."""
    there = datetime.fromisoformat(at).astimezone()
    return f"{there:%H:%M:%S}.{there.microsecond // 1000:03}"


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    tokens = None if row["tokens_in"] is None else f"{row['tokens_in']}+{row['tokens_out']}"
    cost = None if row["cost_usd"] is None else f"{row['cost_usd']:.9f}".rstrip("0").rstrip(".")
    return {**row, "tokens": tokens, "cost_usd": cost}


def _refused(refusal: Mapping[str, Any]) -> str:
    seconds = refusal["retry_after_seconds"]
    return f"{refusal['provider']} refused ({refusal['reason']}{'' if seconds is None else f', for {seconds:g} s'})"


def _reach(data: Mapping[str, Any]) -> str:
    if data["reaches_back_to"] is None:
        return "nothing has happened yet"
    older = ", what was before is forgotten" if data["forgotten"] else ""
    return f"the memory reaches back to {clock(data['reaches_back_to'])}{older}"


COMMANDS: tuple[Command, ...] = (
    Command(
        path="requests",
        method="GET",
        route="/v1/requests",
        help="the last requests, the newest first: who asked what, who answered, how long it took, what it cost",
        arguments=(
            Argument(name="--slow", help="those that took longest, the slowest first", flag=True),
            Argument(
                name="--by",
                help="what is slow: the time to the first content, which it is without it, or the whole",
                choices=("first_content", "duration"),
            ),
            Argument(name="--failed", help="those that failed", flag=True),
            at_most(20, "n"),
            Argument(
                name="--provider",
                help="that this provider was called for, or refused",
                metavar="NAME",
                complete="providers",
            ),
            Argument(name="--key", help="of this inbound key", metavar="NAME"),
            Argument(name="--since", help="from then on: such as 10m, or a date", metavar="TIME"),
        ),
        render=listed,
    ),
    Command(
        path="request show",
        method="GET",
        route="/v1/requests/{name}",
        help="the way of one request: each call, why it was made, what it took and cost, who refused, what was waited",
        arguments=(
            Argument(
                name="name", metavar="ID", help="its id, which each answer has as x-request-id", complete="requests"
            ),
        ),
        render=story,
    ),
)
