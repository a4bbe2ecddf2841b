"""The README's list of the console, its table of commands, and what the node can be asked: each has what the others have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from starlette.routing import Route

from runestone.console.admin import app
from runestone.console.repl.offers import METAS
from runestone.console.table import COMMANDS
from runestone.operations.actions import Actions
from runestone.operations.edits import EDITS
from runestone.operations.fleet import Fleet
from runestone.operations.node import Node

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PATHS = {command.path for command in COMMANDS}
FROM_PYTHON_ALONE = {("GET", "/v1/dashboard"), ("POST", "/v1/chat")}
FOR_COMPLETION = {("GET", "/v1/names/requests")}
LINE = re.compile(r"^runestone ctl (.+?)(?:  +(.*))?$", re.MULTILINE)


def listed() -> Iterator[str]:
    """Each verb that the list of ``ctl`` names, the ones behind an ``also:`` too: alone where their group is that of the line."""
    block = re.search(r"```\n(runestone ctl status.*?)```", README, re.DOTALL)
    assert block is not None
    for usage, about in LINE.findall(block[1]):
        first, *rest = usage.split()
        second = (rest or [""])[0]
        below = [f"{first} {verb}" for verb in second.strip("[]").split("|")]
        own = below if below[0] in PATHS and not second.startswith("[") else [first]
        yield from (path for path in below if path in PATHS and second.startswith("["))
        yield from own
        for named in re.findall(r"also: ([^;]*)", about):
            for words in (part.split() for part in named.split(",") if not part.startswith(" which ")):
                pairs = (" ".join(words[:2]), f"{first} {words[0]}", words[0])
                yield next((path for path in pairs if path in PATHS), " ".join(words))


def test_every_verb_is_in_the_readmes_list_and_no_other() -> None:
    named = set(listed())

    assert sorted(PATHS - named) == [], "not in the README's list of ctl"
    assert sorted(named - PATHS) == [], "in the README's list of ctl, and no verb"


def empty(cls: Any) -> Any:
    """One that nothing is asked of."""
    needed = {field.alias: None for field in attrs.fields(cls) if field.init and field.default is attrs.NOTHING}
    return cls(**needed)


def routes() -> set[tuple[str, str]]:
    """What the node can be asked: answered whole, and line by line."""
    actions = Actions(empty(Node), empty(Fleet))
    streams = [route for route in app(actions).routes if isinstance(route, Route) and route.path != "/{path:path}"]
    lines = {(method, route.path.replace(":path", "")) for route in streams for method in route.methods or ()}
    return {(one.method, one.path) for one in actions.table()} | (lines - {("HEAD", path) for _, path in lines})


def test_every_verb_has_its_route_and_every_route_its_verb() -> None:
    asked = {(command.method, command.route) for command in COMMANDS}

    assert sorted(asked - routes()) == [], "nobody answers these verbs"
    assert sorted(routes() - asked - FROM_PYTHON_ALONE - FOR_COMPLETION) == [], "no verb asks these"


def test_a_verb_and_its_route_tell_alike_whether_they_act_and_only_what_acts_is_an_edit() -> None:
    known = {one.route: one for one in Actions(empty(Node), empty(Fleet)).table()}
    asked = {command.path: (command, f"{command.method} {command.route}") for command in COMMANDS}

    assert [path for path, (verb, route) in asked.items() if route in known and verb.acts == known[route].reads] == []
    assert {route for route, one in known.items() if not one.reads} >= EDITS


def test_every_word_with_a_backslash_is_in_the_readme() -> None:
    assert [name for name in METAS if f"\\{name}" not in README] == []
