"""How an answer looks at the console: drawn for a terminal, one fact a line, as JSON, or as plain lines through pipes."""

from __future__ import annotations

import io
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, Final

from attrs import frozen

from runestone.console import render
from runestone.console.commands import Renderer
from runestone.console.repl.grammar import Pipe

_WILD: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class Enough(Exception):
    """``head`` has all that it wants."""


@frozen(kw_only=True)
class View:
    """How answers are shown.

    ``lines``: they go through a pipe. ``entries``: they are counted there, so that of an answer with lists these matter alone.
    """

    terminal: bool
    expanded: bool = False
    as_json: bool = False
    lines: bool = False
    entries: bool = False

    def over(self, rendered: Renderer, *, streamed: bool) -> Renderer:
        """A renderer that shows what ``rendered`` makes in this way. ``streamed``: it has the entries of an answer one by one."""

        def show(data: Mapping[str, Any]) -> str:
            if self.as_json:
                return json.dumps(data, indent=None if streamed else 2)
            return self._shown(_parts(rendered, data))

        return show

    def _shown(self, parts: Sequence[str]) -> str:
        if self.entries and (tables := [part for part in parts if isinstance(part, render.Table)]):
            parts = tables
        if self.lines or not self.terminal:
            text = "".join(self._table(part) if isinstance(part, render.Table) else part for part in parts)
            return tame(text) if self.terminal else text
        from runestone.console.repl.drawn import drawn  # noqa: PLC0415 - it loads rich, which takes a while

        return "".join(drawn(self._table(part) if isinstance(part, render.Table) else part) for part in parts)

    def _table(self, table: render.Table) -> str:
        """A list, as lines where they are wanted."""
        if self.expanded and not self.entries:
            records = [f"-- {number}\n{render.facts(row)}" for number, row in enumerate(table.rows, 1)]
            return "\n".join(records) or "nothing"
        return table.partition("\n")[2] if self.lines and titled(table) else table


def _parts(rendered: Renderer, data: Mapping[str, Any]) -> list[str]:
    """The text of an answer, its tables apart."""
    mark = secrets.token_hex(8)  # which no word in an answer can be
    tables: list[str] = []

    def apart(table: render.Table) -> str:
        tables.append(table)
        return f"{mark}{len(tables) - 1}{mark}"

    with render.drawing(apart):
        pieces = re.split(f"{mark}([0-9]+){mark}", rendered(data))
    return [tables[int(piece)] if index % 2 else piece for index, piece in enumerate(pieces) if piece]


def titled(table: render.Table) -> bool:
    """Whether its first line are the titles."""
    return table.count("\n") + 1 == len(table.cells)


def tame(text: str) -> str:
    """Without what moves a terminal's cursor: words of clients and providers stand in answers."""
    return _WILD.sub("\ufffd", text)


class Piped(io.TextIOBase):
    """A stream whose lines go through ``pipes`` to ``target`` as they come; :meth:`finish` tells what is known at the end alone.

    Blank lines are none: they part the paragraphs of an answer, or are all of an empty one.
    """

    def __init__(self, target: IO[str], pipes: Sequence[Pipe]) -> None:
        self._target = target
        self._begun = ""
        self.used = False
        self._stages = [_STAGES[pipe.kind](pipe) for pipe in pipes if pipe.kind != "json"]

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """A pipe is none."""
        return False

    def write(self, text: str) -> int:
        """Raises :class:`Enough` where nothing that comes can matter any more."""
        self.used = True
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line:
                self._pass(line, 0)
        return len(text)

    def flush(self) -> None:
        """What has come whole is through."""
        self._target.flush()

    def finish(self) -> None:
        """The end: what waits for its newline, and the counts."""
        with suppress(Enough):
            if self._begun:
                self.write("\n")
        for index, stage in enumerate(self._stages, 1):
            with suppress(Enough):
                for line in stage.rest():
                    self._pass(line, index)

    def _pass(self, line: str, index: int) -> None:
        """Through the stages from ``index`` on."""
        enough = False
        for stage in self._stages[index:]:
            taken = stage.takes(line)
            enough = enough or stage.full
            if not taken:
                break
        else:
            self._target.write(f"{line}\n")
        if enough:
            raise Enough


class _Stage:
    full = False  # it takes no more

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    def takes(self, line: str) -> bool:
        raise NotImplementedError

    def rest(self) -> Sequence[str]:
        return ()


class _Grep(_Stage):
    def takes(self, line: str) -> bool:
        return re.search(self.pipe.pattern, line) is not None


class _Head(_Stage):
    seen = 0

    def takes(self, line: str) -> bool:
        self.seen += 1
        self.full = self.seen >= self.pipe.limit
        return self.seen <= self.pipe.limit


class _Count(_Stage):
    seen = 0

    def takes(self, line: str) -> bool:
        self.seen += 1
        return False

    def rest(self) -> Sequence[str]:
        return (str(self.seen),)


_STAGES: Final[Mapping[str, Callable[[Pipe], _Stage]]] = {"grep": _Grep, "head": _Head, "count": _Count}
