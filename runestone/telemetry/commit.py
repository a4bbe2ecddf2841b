"""The commit that runs, where it can be told without asking anybody: by the record of an installation (PEP 610), or by a checkout."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

import orjson

import runestone

UNKNOWN: Final = "unknown"
_ID: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@cache
def commit() -> str:
    """The id of the commit, ``unknown`` for a package that was built without one. It is read once."""
    try:
        record = distribution("runestone").read_text("direct_url.json")
    except PackageNotFoundError:
        record = None
    return recorded(record) or checked_out(Path(runestone.__file__).resolve().parents[1]) or UNKNOWN


def recorded(direct_url: str | None) -> str | None:
    """The commit in a ``direct_url.json``; ``None`` if it names none."""
    try:
        told: Any = orjson.loads(direct_url or "{}")
    except orjson.JSONDecodeError:
        return None
    source = told.get("vcs_info") if isinstance(told, dict) else None
    return _valid(source.get("commit_id")) if isinstance(source, dict) else None


def checked_out(folder: Path) -> str | None:
    """The commit that the Git checkout in ``folder`` stands at; ``None`` if there is none, or it cannot be read."""
    try:
        git = folder / ".git"
        if git.is_file():  # a work tree, or a submodule
            git = folder / _text(git).removeprefix("gitdir:").strip()
        head = _text(git / "HEAD")
        if not head.startswith("ref:"):
            return _valid(head)
        shared = git / _text(git / "commondir") if (git / "commondir").is_file() else git
        name = head.removeprefix("ref:").strip()
        if (shared / name).is_file():
            return _valid(_text(shared / name))
        packed = (line.split(" ", 1) for line in _text(shared / "packed-refs").splitlines())
        return next((_valid(parts[0]) for parts in packed if parts[1:] == [name]), None)
    except (OSError, ValueError):  # not there, not ours to read, or no text
        return None


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()


def _valid(found: object) -> str | None:
    return found if isinstance(found, str) and _ID.fullmatch(found) else None
