"""The commands about the settings of the running node."""

from __future__ import annotations

from runestone.console import render
from runestone.console.commands import Command, changed

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
        help="what was changed at run time",
        render=lambda data: render.table(
            data["changes"], ("key", "value", *(("until",) if any("until" in one for one in data["changes"]) else ()))
        ),
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
