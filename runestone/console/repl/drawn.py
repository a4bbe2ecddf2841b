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
    "bold red": r"down|unhealthy|open|forced_open|failed|crashed|stopped|error|CRASHED|STOPPED",
    "yellow": r"half_open|degraded|draining|throttled|quarantined|disabled|suspended|warning|legacy|maintenance|SUSPENDED",
}
_AS_A_VALUE: Final = r"(?m)(?:(?<=  )|(?<==)|(?<= )(?=[A-Z]))(?:{})(?=$|,| )"  # behind its key, or in capitals


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
    """The first column has what a thing is called: it is never cut."""
    titles, *lines = table.cells
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", show_header=titled(table))
    for index, title in enumerate(titles):
        widest = max(len(line[index]) for line in table.cells)
        made.add_column(title, overflow="fold", no_wrap=index == 0, min_width=None if index else widest)
    for line in lines:
        made.add_row(*(Text(tame(cell), style=_style(cell)) for cell in line))
    return made


def _style(cell: str) -> str:
    return next((style for style, words in _STATES.items() if re.fullmatch(words, cell)), "")
