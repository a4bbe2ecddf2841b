"""Answers on a terminal: in colour, tables fitted to its width."""

from __future__ import annotations

import re
import shutil
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runestone.console import render
from runestone.console.repl.output import tame, titled

_STATES: Final = {
    "green": r"up|healthy|closed|ready|running|ok|enhanced",
    "bold red": r"down|unhealthy|open|forced_open|failed|crashed|stopped|error|CRASHED|STOPPED|ERROR",
    "yellow": r"half_open|degraded|draining|throttled|quarantined|disabled|suspended|warning|legacy|maintenance|SUSPENDED|WARNING",
}
_AS_A_VALUE: Final = r"(?m)(?:(?<=  )|(?<==)|(?<!\S)(?=[A-Z]))(?:{})(?=$|,| )"  # behind its key, or in capitals
_WHOLE: Final = ("ID",)  # columns by which a thing is called, beside the first: they are copied


def drawn(text: str) -> str:
    """``text`` for this terminal; a table in its own way."""
    console = Console(width=shutil.get_terminal_size().columns, force_terminal=True, highlight=False)
    with console.capture() as captured:
        if isinstance(text, render.Table):
            console.print(_table(text))
        else:
            coloured = Text(tame(text))
            for style, words in _STATES.items():
                coloured.highlight_regex(_AS_A_VALUE.format(words), style)
            console.print(coloured, soft_wrap=True)
    return captured.get().removesuffix("\n")


def _table(table: render.Table) -> Table:
    """What a thing is called is never cut, and the first column has it."""
    titles, *lines = table.cells
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", show_header=titled(table))
    for index, title in enumerate(titles):
        whole = index == 0 or title in _WHOLE
        widest = max(len(line[index]) for line in table.cells)
        made.add_column(title, overflow="fold", no_wrap=whole, min_width=widest if whole else None)
    for line in lines:
        made.add_row(*(Text(tame(cell), style=_style(cell)) for cell in line))
    return made


def _style(cell: str) -> str:
    return next((style for style, words in _STATES.items() if re.fullmatch(words, cell)), "")
