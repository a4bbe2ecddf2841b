"""What a person wants of every console: the words with a backslash in a file of theirs, which each console begins with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runestone.console.repl.pager import MODES

if TYPE_CHECKING:
    from runestone.console.repl.session import Session

_TAKEN: Final = (
    "\\x",
    "\\json",
    "\\timing",
    *(f"\\pager {mode}" for mode in MODES),
)  # nothing that acts, nor leads elsewhere


def habits_file(environ: Mapping[str, str] = os.environ) -> Path:
    """``consolerc`` in the user's directory of settings."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "runestone" / "consolerc"


def take(session: Session, path: Path) -> None:
    """Carry out the lines of ``path``, if there is one; a line that is none of these words is told, and left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        print(f"runestone: {path}: {error}", file=sys.stderr)
        return
    for number, line in enumerate(map(str.strip, lines), 1):
        if line in _TAKEN:
            session.run(line)
        elif line and not line.startswith("#"):
            print(f"runestone: {path}:{number}: only {', '.join(_TAKEN)} are for here", file=sys.stderr)
