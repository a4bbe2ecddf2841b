"""The commands about the settings of the running node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runestone.console import render
from runestone.console.commands import Command, changed


def _difference(data: Mapping[str, Any]) -> str:
    until = ("until",) if any("until" in one for one in data["changes"]) else ()
    rows = [{**one, "before": _before(one)} for one in data["changes"]]
    lines: list[str] = [render.table(rows, ("key", "value", "before", "unsaved", *until))]
    lines += [f"needs a restart of the process: {key}" for key in data["needs_restart"]]
    if data["last_rejection"] is not None:
        lines.append(f"the last change was refused: {data['last_rejection']}")
    return "\n".join(lines)


def _before(change: Mapping[str, Any]) -> str:
    default = " (default)" if change["before_origin"] == "default" else ""
    return f"{render.cell(change['before'])}{default}"


COMMANDS: tuple[Command, ...] = (
    Command(
        path="config show",
        method="GET",
        route="/v1/config",
        help="every setting in force, and where it comes from",
        render=lambda data: render.table(data["settings"], ("key", "value", "origin")),
    ),
    Command(
        path="config diff",
        method="GET",
        route="/v1/config/diff",
        help="what was changed at run time, beside what file and variables say",
        render=_difference,
    ),
    Command(
        path="config export",
        method="GET",
        route="/v1/config/export",
        help="what was changed at run time, as a piece of runestone.toml",
        render=lambda data: str(data["toml"]).rstrip("\n"),
    ),
    Command(
        path="config reload",
        method="POST",
        route="/v1/config/reload",
        help="read the file and the variables again; refused whole if anything is wrong",
        render=changed("config"),
    ),
)
