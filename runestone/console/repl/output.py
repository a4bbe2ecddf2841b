"""How an answer looks at the console: drawn for a terminal, one fact a line, as JSON, or as plain lines through pipes."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, ClassVar, Final

from attrs import frozen

from runestone.console import render
from runestone.console.commands import Renderer
from runestone.console.repl.grammar import Pipe

_GOOD: Final = r"up|healthy|closed|ready|running|ok|enhanced"
_BAD: Final = r"down|unhealthy|open|forced_open|failed|crashed|stopped|error|CRASHED|STOPPED"
_ODD: Final = (
    r"half_open|degraded|draining|throttled|quarantined|disabled|suspended|warning|legacy|maintenance|SUSPENDED"
)
_STATES: Final = tuple(
    rf"(?<![\w.:/-])(?P<{style}>{words})(?![\w.:/-])"
    for style, words in (("good", _GOOD), ("bad", _BAD), ("odd", _ODD))
)
_STYLES: Final = {"good": "green", "bad": "bold red", "odd": "yellow"}


class Enough(Exception):
    """``head`` has all that it wants."""


@frozen(kw_only=True)
class View:
    """How answers are shown."""

    terminal: bool
    expanded: bool = False
    as_json: bool = False
    lines: bool = False  # they go through a pipe

    def over(self, rendered: Renderer, *, streamed: bool) -> Renderer:
        """A renderer that shows what ``rendered`` makes in this way. ``streamed``: it has the entries of an answer one by one."""

        def show(data: Mapping[str, Any]) -> str:
            if self.as_json:
                return json.dumps(data, indent=None if streamed else 2, ensure_ascii=False)
            text = rendered(data)
            table = text if isinstance(text, render.Table) else None
            if table is not None and self.expanded:
                text = _expanded(table)
            elif table is not None and self.lines:
                return "\n".join(text.split("\n")[1:])
            if not self.terminal or self.lines:
                return text
            return _drawn(text if table is None or self.expanded else table)

        return show


def _expanded(table: render.Table) -> str:
    """Each row by itself, with all that is known of it."""
    records = [f"-- {number}\n{render.facts(row)}" for number, row in enumerate(table.rows, 1)]
    return "\n".join(records) or "nothing"


def _drawn(text: str) -> str:
    """In colour, tables fitted to the terminal."""
    from rich import box  # noqa: PLC0415 - it takes a while, and only a terminal needs it
    from rich.console import Console  # noqa: PLC0415 - likewise
    from rich.highlighter import RegexHighlighter  # noqa: PLC0415 - likewise
    from rich.table import Table  # noqa: PLC0415 - likewise
    from rich.theme import Theme  # noqa: PLC0415 - likewise

    class States(RegexHighlighter):
        highlights: ClassVar = list(_STATES)

    console = Console(
        width=shutil.get_terminal_size().columns, force_terminal=True, theme=Theme(_STYLES), highlighter=States()
    )
    with console.capture() as captured:
        if isinstance(text, render.Table):
            titles, *lines = text.cells
            drawn = Table(*titles, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
            for line in lines:
                drawn.add_row(*map(States(), line))
            console.print(drawn)
        else:
            console.print(text, markup=False, soft_wrap=True)
    return captured.get().rstrip("\n")


class Piped(io.TextIOBase):
    """A stream whose lines go through ``pipes`` to ``target`` as they come; :meth:`finish` tells what is known at the end alone."""

    def __init__(self, target: IO[str], pipes: Sequence[Pipe]) -> None:
        self._target = target
        self._begun = ""
        self._stages = [_STAGES[pipe.kind](pipe) for pipe in pipes if pipe.kind != "json"]

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """A pipe is none."""
        return False

    def write(self, text: str) -> int:
        """Raises :class:`Enough` where nothing that comes can matter any more."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
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
