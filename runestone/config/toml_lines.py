"""In which line of a TOML file a key stands. The parser tells no positions; this scanner finds them, and nothing else.

It follows headers, keys, strings and brackets of text that ``tomllib`` takes; a key inside an inline table is where that table begins.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

Path = tuple[str, ...]

_PART: Final = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\", "e": "\x1b"}
_TOKEN: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|[\[\]{}]|\n''', re.DOTALL
)


def lines(text: str) -> dict[Path, int]:
    """The line, from 1, of every header and every key, by its path. Elements of arrays of tables have their index in the path."""
    found: dict[Path, int] = {}
    tables: Counter[Path] = Counter()
    here: Path = ()
    line, at = 1, 0
    while at < len(text):
        start = len(text) - len(text[at:].lstrip(" \t\r"))
        end = _end(text, start)
        statement = text[start:end]
        if statement.startswith("["):
            double = statement.startswith("[[")
            here, _ = _key(statement, 2 if double else 1)
            if double:
                tables[here] += 1
                here = (*here, str(tables[here] - 1))
            found.setdefault(here, line)
        elif statement.strip() and not statement.startswith("#"):
            path, _ = _key(statement, 0)
            for depth in range(1, len(path) + 1):
                found.setdefault((*here, *path[:depth]), line)
        line += text.count("\n", at, end + 1)
        at = end + 1
    return found


def line_of(found: dict[Path, int], path: Path) -> int | None:
    """The line of ``path``, else of the nearest table around it, else of the first thing in it."""
    for depth in range(len(path), 0, -1):
        if (line := found.get(path[:depth])) is not None:
            return line
        if inside := [line for key, line in found.items() if key[:depth] == path[:depth]]:
            return min(inside)
    return None


def _end(text: str, start: int) -> int:
    """Where the statement at ``start`` ends: the line end that stands in no string and no bracket."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        match token[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case "\n" if depth <= 0:
                return token.start()
    return len(text)


def _key(text: str, at: int) -> tuple[Path, int]:
    """The dotted key at ``at``."""
    path: list[str] = []
    while (part := _PART.match(text, at)) is not None:
        quoted, literal, bare = part.groups()
        path.append(_unescaped(quoted) if quoted is not None else literal if literal is not None else bare)
        at = part.end()
        if not text.startswith(".", at):
            break
        at += 1
    return tuple(path), at


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPES.get(code, code)

    return _ESCAPE.sub(one, text)
