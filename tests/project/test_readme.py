"""What the README lists of the console is what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from runestone.console.repl.offers import METAS
from runestone.console.table import COMMANDS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PATHS = {command.path for command in COMMANDS}
LINE = re.compile(r"^runestone ctl (.+?)(?:  +(.*))?$", re.MULTILINE)


def listed() -> Iterator[str]:
    """Each verb that the list of ``ctl`` names, the ones behind an ``also:`` too: alone where their group is that of the line."""
    block = re.search(r"```\n(runestone ctl status.*?)```", README, re.DOTALL)
    assert block is not None
    for usage, about in LINE.findall(block[1]):
        first, *rest = usage.split()
        own = (
            [f"{first} {verb}" for verb in rest[0].split("|")]
            if rest and f"{first} {rest[0].split('|')[0]}" in PATHS
            else [first]
        )
        yield from own
        for named in re.findall(r"also: ([^;]*)", about):
            for words in (part.split() for part in named.split(",")):
                pairs = (" ".join(words[:2]), f"{first} {words[0]}", words[0])
                yield next((path for path in pairs if path in PATHS), " ".join(words))


def test_every_verb_is_in_the_readmes_list_and_no_other() -> None:
    named = set(listed())

    assert sorted(PATHS - named) == [], "not in the README's list of ctl"
    assert sorted(named - PATHS) == [], "in the README's list of ctl, and no verb"


def test_every_word_with_a_backslash_is_in_the_readme() -> None:
    assert [name for name in METAS if f"\\{name}" not in README] == []
