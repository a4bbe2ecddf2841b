"""The commands that explain: why a provider is as it is, what other settings would have made of it, and all that was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from runestone.console import render
from runestone.console.bodies import Unusable, Values
from runestone.console.client import Refused
from runestone.console.commands import PROVIDER, Argument, Command, at_most

_STATES: Final = {"half_open": "half-open", "forced_open": "forced open"}
_INDENT: Final = "  "
_HALF_OPEN: Final = (
    "(half-open here from its first probe on; the event breaker.changed tells it as soon as the time is over)"
)


def _clock(at: str, now: str) -> str:
    """A time of this machine's zone; the day too, where it is another one."""
    then, here = (datetime.fromisoformat(text).astimezone() for text in (at, now))
    day = "" if then.date() == here.date() else f"{then:%Y-%m-%d} "
    return f"{day}{then:%H:%M:%S}.{then.microsecond // 1000:03}"


def _sections(parts: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Each part under its name, which stands on the left."""
    told = [(name, list(lines)) for name, lines in parts if lines]
    width = max(len(name) for name, _ in told)
    return "\n".join(
        f"{(name if not number else '').ljust(width)}  {line}".rstrip()
        for name, lines in told
        for number, line in enumerate(lines)
    )


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _state(word: str) -> str:
    return _STATES.get(word, word)


_STANDS: Final = {"maintenance": "in maintenance"}
_TAKES_NOTHING: Final = {
    "draining": "yes: an operator has drained it; `provider ready` takes that back",
    "maintenance": "yes: an operator has it in maintenance; `provider ready` takes that back",
    "leaving": "yes: it is being removed",
}


def _why(data: Mapping[str, Any]) -> str:
    why = data["why"]
    return _sections(
        (
            ("provider", [f"{why['provider']} is {_STANDS.get(why['status'], why['status'])}"]),
            ("breaker", _breaker(why["breaker"], why["at"])),
            ("changes", _changes(why["breaker"]["turns"], why["at"])),
            ("probes", _columns([_probe(probe, why["at"]) for probe in why["breaker"]["probes"]])),
            ("score", _score(why["score"], why["at"])),
            ("throttled", _throttled(why["throttled"], why["at"])),
            ("quarantined", [line for one in why["quarantined"] for line in _quarantined(one, why["at"])] or ["no"]),
            ("draining", [_TAKES_NOTHING.get(why["status"], "yes: it takes nothing new") if why["draining"] else "no"]),
            ("unreachable", ["yes: probes find nobody there"] if why["unreachable"] else []),
            ("history", _history(why["history"], why["at"])),
        )
    )


def _breaker(breaker: Mapping[str, Any], now: str) -> list[str]:
    since = "longer than is remembered" if breaker["since"] is None else _clock(breaker["since"], now)
    head = f"{_state(breaker['state'])} since {since}"
    if (again := breaker["tried_again"]) is not None:
        head += f"; it is tried again in {again['seconds']:.1f} s, at {_clock(again['until'], now)}"
    elif breaker["mode"] == "forced_open":
        head += "; until `breaker auto` or `breaker reset`"
    if breaker["mode"] == "measuring":
        head += "; it only measures"
    if breaker["mode"] == "disabled":
        head += "; disabled, so it never refuses"
    lines = [head]
    if (because := breaker["because"]) is not None:
        lines.append(f"at {_clock(because['at'], now)}: {because['words']}{_by(because)}")
        lines += [_INDENT + line for line in _columns([_call(step, now) for step in because["steps"]])]
    elif breaker["consecutive_failures"]:
        lines.append(f"{breaker['consecutive_failures']} of {breaker['failure_threshold']} failures in a row")
    return lines


def _by(turn: Mapping[str, Any]) -> str:
    if "who" not in turn:
        return ""
    return f" (by {turn['who']}, it says)" if turn["who"] else " (by whom is not recorded)"


def _turn(turn: Mapping[str, Any], now: str) -> tuple[str, str, str]:
    return (
        _clock(turn["at"], now),
        f"{_state(turn['before'])} -> {_state(turn['after'])}",
        f"{turn['words']}{_by(turn)}",
    )


def _changes(turns: Sequence[Mapping[str, Any]], now: str) -> list[str]:
    lines = _columns([_turn(turn, now) for turn in turns])
    tried = any(turn["cause"] == "time_was_over" for turn in turns)
    return [*lines, _HALF_OPEN] if tried else lines


def _probe(probe: Mapping[str, Any], now: str) -> tuple[str, str, str]:
    judged = "" if probe["judged_at"] is None else f"judged at {_clock(probe['judged_at'], now)}"
    return _clock(probe["at"], now), f"{probe['outcome']} {judged}".strip(), probe["request"]


def _call(step: Mapping[str, Any], now: str) -> tuple[str, str, str]:
    late = ", slow" if step.get("slow") else ""
    return _clock(step["at"], now), f"{step['what']}{late}", step.get("request") or "-"


def _score(score: Mapping[str, Any], now: str) -> list[str]:
    parts = " x ".join(f"{name} {value:g}" for name, value in score["parts"].items())
    held = f"; held down by {', '.join(score['held_down_by'])}" if score["held_down_by"] else ""
    moved = [(*_call(step, now), f"{step['score_before']:g} -> {step['score_after']:g}") for step in score["moved_by"]]
    lines = [f"{score['score']:g} = {parts}{held}"]
    return [*lines, "moved most by", *(_INDENT + line for line in _columns(moved))] if moved else lines


def _throttled(throttled: Mapping[str, Any] | None, now: str) -> list[str]:
    if throttled is None:
        return ["no"]
    lines = [f"for {throttled['seconds']:.1f} s, until {_clock(throttled['until'], now)}"]
    if (because := throttled["because"]) is not None:
        asked = because["retry_after_seconds"]
        asked = "without a time" if asked is None else f"which asked for {asked:g} s"
        lines.append(f"by a 429 at {'  '.join(_call(because, now)[::2])}, {asked}")
    return lines


def _quarantined(one: Mapping[str, Any], now: str) -> list[str]:
    what = "all of it" if one["model"] is None else f"the model {one['model']}"
    line = f"{what}: {one['reason']}, for {one['seconds']:.0f} s, until {_clock(one['until'], now)}"
    because = one["because"]
    return [line] if because is None else [line, _INDENT + "  ".join(_call(because, now))]


def _history(history: Mapping[str, Any], now: str) -> list[str]:
    if history["since"] is None:
        return ["none: its actor has not begun yet"]
    end = "end where it is" if history["exact"] else "do NOT end where it is: it was changed without a word"
    return [f"{history['steps']} steps since {_clock(history['since'], now)}; played again, they {end}"]


# -- what if -----------------------------------------------------------------------------------------------------------------


def _settings(values: Values) -> dict[str, Any]:
    """``failure_threshold=10 …`` as a query."""
    pairs = [word.partition("=") for word in values.get("settings", ())]
    for name, sign, value in pairs:
        if not sign or not value:
            raise Unusable(f"{name}{sign}: not a setting with its value; such as failure_threshold=10")
    return {name.replace("-", "_"): value for name, _, value in pairs}


def _other_settings(said: Sequence[str]) -> Iterable[str]:
    from runestone.config.options import BREAKER  # noqa: PLC0415 - it takes a moment to load, and only completion needs it

    named = {word.partition("=")[0].replace("-", "_") for word in said}
    return (f"{name}=" for name in BREAKER if name not in named)


def _from_file(values: Values) -> dict[str, Any] | None:
    """The answer from a file that `events export` has written; ``None`` without one."""
    if values["file"] is None:
        return None
    # they take a moment to load, and only this needs them
    from runestone.operations import recording  # noqa: PLC0415
    from runestone.operations.errors import OperationError  # noqa: PLC0415

    try:
        return recording.what_if(values["file"], values["name"], _settings(values))
    except OperationError as error:
        raise Refused(error.reason, str(error)) from None


def _what_if(data: Mapping[str, Any]) -> str:
    told = data["what_if"]
    now, calls = told["until"], told["calls"]
    named = told["settings"].items()
    changes = ", ".join(f"{name} {told['in_force'][name]} -> {value}" for name, value in named)
    rows = _side_by_side(told["real"]["turns"], told["what_if"]["turns"], now)
    opened = [
        f"opened {told[course]['openings']}x, for {told[course]['open_seconds']:g} s in all; now {_state(told[course]['state'])}"
        for course in ("real", "what_if")
    ]
    table = render.table(
        [{"time": at, "as it was": one, "what if": two} for at, one, two in (*rows, ("in all", *opened))],
        ("time", "as it was", "what if"),
    )
    return f"{_sections(_about_it(told, changes, calls, now))}\n\n{table}"


def _about_it(
    told: Mapping[str, Any], changes: str, calls: Mapping[str, Any], now: str
) -> Iterable[tuple[str, Sequence[str]]]:
    ends = ", ".join(f"{count} {how}" for how, count in calls["of_these"].items())
    refused = f"{calls['would_be_refused']} of these would have been refused" + (f" ({ends})" if ends else "")
    unknown = f"{calls['would_be_let_through']} of these would have been let through"
    if calls["would_be_let_through"]:
        unknown += "; how they would have ended nobody knows, so they move nothing here"
    return (
        ("provider", [told["provider"]]),
        ("settings", [changes or "those in force"]),
        ("verdict", ["nothing would have been different" if told["same"] else "it would have been different"]),
        ("calls", [f"{calls['made']} made; {refused}", f"{calls['refused']} refused by the breaker; {unknown}"]),
        ("", ["what went elsewhere without asking it is in no history"]),
        ("history", _history(told, now)),
        ("", [f"it began with the breaker {_state(told['at_first'])}"] if told["at_first"] != "closed" else []),
    )


def _side_by_side(
    real: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], now: str
) -> list[tuple[str, str, str]]:
    """The changes of both courses in the order of time; what happened in both stands in one row."""
    rows: dict[tuple[str, int], list[str]] = {}
    for column, turns in enumerate((real, other)):
        seen: dict[str, int] = {}
        for turn in turns:
            number = seen[turn["at"]] = seen.get(turn["at"], -1) + 1
            cells = rows.setdefault((turn["at"], number), ["-", "-"])
            cells[column] = f"{_state(turn['after'])}: {turn['words']}"
    return [(_clock(at, now), one, two) for (at, _), (one, two) in sorted(rows.items())]


COMMANDS: tuple[Command, ...] = (
    Command(
        path="why",
        method="GET",
        route="/v1/providers/{name}/why",
        help="why a provider is as it is: what has moved its breaker and its score, and what else keeps calls from it",
        arguments=(
            PROVIDER,
            at_most(5, "last", " changes of the breaker"),
        ),
        render=_why,
    ),
    Command(
        path="what-if",
        method="GET",
        route="/v1/breakers/{name}/what-if",
        help="what its breaker would have done with other settings; changes nothing",
        arguments=(
            PROVIDER,
            Argument(
                name="settings",
                nargs="+",
                metavar="SETTING=VALUE",
                offers=_other_settings,
                help="as for breaker set: failure_threshold=10 recovery_timeout=120s half_open_limit=5 slow_first_token=10s",
            ),
            Argument(
                name="--from",
                key="file",
                metavar="FILE",
                help="of a file that `events export` has written; no node is asked",
            ),
        ),
        body=_settings,
        local=_from_file,
        offline="file",
        render=_what_if,
    ),
    Command(
        path="events export",
        method="GET",
        route="/v1/events/export",
        help="all that is recorded, events and histories, one JSON object a line",
        arguments=(
            Argument(name="file", metavar="FILE", help="where it goes; - for standard output"),
            Argument(name="--name", help="of these events, such as 'breaker.*'", metavar="PATTERN"),
            Argument(
                name="--provider",
                help="events about this provider, and its history",
                metavar="NAME",
                complete="providers",
            ),
            Argument(name="--since", help="events behind this number", type=int, metavar="SEQ"),
        ),
        body=lambda values: {key: value for key, value in values.items() if key != "file"},
        render=json.dumps,
        stream=True,
        into="file",
    ),
)
