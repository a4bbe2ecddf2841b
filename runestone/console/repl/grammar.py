"""A line of the console, taken apart: commands with ``;`` between them, pipes behind them, and words that begin with a backslash."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Final, Literal, get_args

from attrs import frozen

_TOKEN: Final = re.compile(
    r"""\s+ | (?P<mark>[;|]) | (?P<word>(?:[^\s;|'"\\] | '[^']*' | "(?:[^"\\]|\\.)*" | \\.)+)""", re.VERBOSE | re.DOTALL
)
_META: Final = re.compile(r"\\([a-z]+|\?)")
_LONE: Final = re.compile(r"(?:^|;)\s*\\\Z")  # a meta of which only the backslash stands
_HEAD: Final = 10

PipeKind = Literal["grep", "head", "count", "json"]
PIPES: Final[tuple[PipeKind, ...]] = get_args(PipeKind)


class Unreadable(Exception):
    """The line makes no command; the message says why."""


@frozen
class Pipe:
    """What is done with the lines of an answer, here and not by the node. ``limit`` is of ``head``."""

    kind: PipeKind
    pattern: str = ""
    limit: int = 0


@frozen
class Typed:
    """One command as typed, its quotes resolved."""

    words: tuple[str, ...]
    pipes: tuple[Pipe, ...] = ()


@frozen
class Meta:
    r"""A word to the console itself, such as ``\watch 2s``, without its backslash."""

    name: str
    words: tuple[str, ...] = ()


@frozen
class Cursor:
    """Where in a line the cursor stands: the whole ``words`` before it of the command (or the pipe) that it is in, and the begun one."""

    words: tuple[str, ...]
    word: str
    piped: bool = False


def parse(line: str) -> tuple[Typed | Meta, ...]:
    """What ``line`` asks for, in its order. Raises :class:`Unreadable`."""
    return tuple(_step(parts) for parts in _split(_tokens(line), ";") if parts)


def cursor(text: str) -> Cursor | None:
    """The end of ``text``, which is the line up to the cursor. ``None`` inside a quote: nothing is completed there."""
    try:
        tokens = list(_tokens(text))
    except Unreadable:
        return Cursor((), "\\") if _LONE.search(text) else None
    begun = tokens.pop() if tokens and tokens[-1] not in (";", "|") and text[-1:] and not text[-1].isspace() else ""
    *_, command = _split(tokens, ";")
    *before, words = _split(command, "|")
    return Cursor(tuple(map(_unquoted, words)), begun, piped=bool(before))


def narrowed(words: Sequence[str], paths: Iterable[str]) -> tuple[int, list[list[str]]]:
    """Those of ``paths`` that the most of the first ``words`` begin, and how many words that is. A whole word goes before a beginning."""
    kept, depth = [path.split() for path in paths], 0
    for word in words:
        begun = [path for path in kept if len(path) > depth and path[depth].startswith(word)]
        if not begun:
            break
        kept = [path for path in begun if path[depth] == word] or begun
        depth += 1
    return depth, kept


def expanded(words: Sequence[str], paths: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The one path that ``words`` begin with, each of its words whole or a beginning that fits no other; and the words behind it.

    Raises:
        Unreadable: none fits, or several do.
    """
    paths = sorted(paths)
    depth, kept = narrowed(words, paths)
    ends = [path for path in kept if len(path) == depth]
    longer = [" ".join(path) for path in kept if len(path) > depth]
    rest = tuple(words[depth:])
    if depth == 0:
        raise Unreadable(f"there is no command {words[0]!r}{_meant(words[0], paths)}; `help` lists them all")
    typed = " ".join(words[: depth + 1])
    if len(ends) > 1:
        raise Unreadable(f"{typed!r} may be {_or(' '.join(path) for path in ends)}")
    begun_only = ends and longer and rest and not rest[0].startswith("-") and ends[0][-1] != words[depth - 1]
    if not ends or begun_only:
        raise Unreadable(f"{typed!r} is no command; there are {_or(longer)}")
    return " ".join(ends[0]), rest


def _step(parts: list[str]) -> Typed | Meta:
    command, *pipes = _split(parts, "|")
    if not command:
        raise Unreadable("there is no command before the |")
    if (meta := _META.fullmatch(command[0])) is not None:
        if pipes:
            raise Unreadable(f"{command[0]} has no output for a pipe")
        return Meta(meta[1], tuple(map(_unquoted, command[1:])))
    return Typed(tuple(map(_unquoted, command)), tuple(map(_pipe, pipes)))


def _pipe(parts: list[str]) -> Pipe:
    match [_unquoted(part) for part in parts]:
        case ["grep", pattern]:
            return Pipe("grep", pattern=_regular(pattern))
        case ["head"]:
            return Pipe("head", limit=_HEAD)
        case ["head", number] if number.isdecimal():
            return Pipe("head", limit=int(number))
        case [("count" | "json") as one]:
            return Pipe(one)
        case _:
            raise Unreadable("behind a | comes one of: grep PATTERN, head [N], count, json")


def _regular(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise Unreadable(f"{pattern!r} is no regular expression: {error}") from None
    return pattern


def _tokens(text: str) -> Iterator[str]:
    """The words as typed, and the marks between them."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise Unreadable("the line ends in a backslash" if text[at] == "\\" else f"the quote {text[at]} has no end")
        if (token := found["mark"] or found["word"]) is not None:
            yield token
        at = found.end()


def _split(tokens: Iterable[str], mark: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == mark:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _unquoted(token: str) -> str:
    return shlex.split(token)[0]


def _meant(word: str, paths: Sequence[str]) -> str:
    close = get_close_matches(word, {path.split()[0] for path in paths}, n=1)
    return f", did you mean {close[0]}" if close else ""


def _or(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
