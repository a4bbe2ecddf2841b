"""The options that every command takes, before its verb or behind it, and what is told of words that make no command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Container, Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from typing import Any, Final, NoReturn

from runestone.console.bodies import duration

FORMATS: Final = ("table", "wide", "json", "ndjson", "name")
DEFAULTS: Final = {
    "output": "table",
    "json": False,
    "quiet": False,
    "no_header": False,
    "patience": 60.0,
    "watch": None,
    "wait": None,
    "dry_run": False,
    "yes": False,
    "reason": None,
}
_WITHOUT_A_TIME: Final = {"--watch": "2s", "--wait": "30s"}
_TIME: Final = re.compile(r"[0-9.]+(ms|s|m|h)?")
_COMMON: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (
        ("-o", "--output"),
        {
            "choices": FORMATS,
            "help": "table, without it; wide: all columns; json: one object; ndjson: one a line; name: names alone",
        },
    ),
    (("--json",), {"action": "store_true", "help": "one JSON object on standard output, as -o json"}),
    (("-q", "--quiet"), {"action": "store_true", "help": "say nothing of an act that is done, and no remarks"}),
    (("--no-header",), {"action": "store_true", "help": "tables without their first line"}),
    (
        ("--timeout",),
        {"dest": "patience", "type": duration, "metavar": "TIME", "help": "how long to wait for an answer; 60s"},
    ),
    (
        ("--watch",),
        {"nargs": "?", "const": 2.0, "type": duration, "metavar": "TIME", "help": "read again and again; every 2s"},
    ),
    (
        ("--wait",),
        {"nargs": "?", "const": 30.0, "type": duration, "metavar": "TIME", "help": "until it is well; 30s at most"},
    ),
    (("--dry-run",), {"action": "store_true", "help": "check an edit of the settings, and tell what it would do"}),
    (("--yes",), {"action": "store_true", "help": "do not ask whether it is meant"}),
    (("--reason",), {"metavar": "TEXT", "help": "why; it goes to the log and the event of an act"}),
)


class Usage(Exception):
    """Words that make no command."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.usage = usage

    @property
    def hint(self) -> str | None:
        """What may have been meant."""
        found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)$", str(self))
        close = [] if found is None else get_close_matches(found[1], re.findall(r"[\w-]+", found[2]), 1)
        return f"did you mean {close[0]}?" if close else None


class Parser(argparse.ArgumentParser):
    """Raises :class:`Usage` where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        """The words make no command."""
        raise Usage(message, self.format_usage())


def add_common(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options, with their values."""
    _add(parser, default=True)
    parser.set_defaults(**DEFAULTS)


def common(taken: Iterable[str], refused: Iterable[str]) -> argparse.ArgumentParser:
    """A parent for parsers of verbs: it has the options, but for those whose names are ``taken``, which mean something else there.

    Those that are ``refused`` are understood, so that it can be said why, and stand in no help.
    """
    return _parent(frozenset(taken) & _NAMES, frozenset(refused))


@cache
def _parent(taken: frozenset[str], refused: frozenset[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    _add(parser.add_argument_group("options of every command"), taken, refused, default=False)
    return parser


def _add(parser: Any, taken: Container[str] = (), refused: Container[str] = (), *, default: bool) -> None:
    for names, about in _COMMON:
        if any(name in taken for name in names):
            continue
        options = about if default else {**about, "default": argparse.SUPPRESS}
        if any(name in refused for name in names):
            options = {**options, "help": argparse.SUPPRESS}
        parser.add_argument(*names, **options)


_NAMES: Final = frozenset(name for names, _ in _COMMON for name in names)


def spelled_out(words: Sequence[str]) -> list[str]:
    """``words`` with the times of ``--watch`` and ``--wait`` that were left out: argparse would take the next word for one."""
    spelled = []
    for word, following in zip(words, (*words[1:], ""), strict=True):
        left_out = word in _WITHOUT_A_TIME and _TIME.fullmatch(following) is None
        spelled.append(f"{word}={_WITHOUT_A_TIME[word]}" if left_out else word)
    return spelled


def wants_json(words: Sequence[str]) -> bool:
    """Whether ``words``, which need make no command, ask for JSON."""
    pairs = set(pairwise(words))
    asked = {"--json", "-ojson", "--output=json", "-ondjson", "--output=ndjson"}
    return bool(asked & set(words)) or any(
        (flag, form) in pairs for flag in ("-o", "--output") for form in ("json", "ndjson")
    )
