"""The history of the console, in the state directory, for its owner alone. A line that may hold a key or a prompt is never written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prompt_toolkit.history import FileHistory

from runestone.config.run_directory import state_directory
from runestone.domain.secret import looks_secret
from runestone.telemetry.logs import masked

_ABOUT_KEYS: Final = re.compile(r"(?i)(?<![A-Z_])api[-_ ]?key|bearer|authori[sz]ation|passw|secret|credential")
_PROMPT: Final = re.compile(r"(?<!\S)--p(?!rov|robe)[a-z]*\b")  # or how it may be abbreviated
_RANDOM: Final = re.compile(r"[A-Za-z0-9+/_=-]{24,}")  # the shape of a key without a prefix


def harmless(line: str) -> bool:
    """Whether nothing in ``line`` looks like a key, or like the place of one; and whether it asks no provider anything."""
    if looks_secret(line) or masked(line) != line or _ABOUT_KEYS.search(line) or _PROMPT.search(line):
        return False
    return not any(_mixed(word) for word in _RANDOM.findall(line) if not word.startswith("req_"))


def _mixed(word: str) -> bool:
    """Names have few digits among many letters; keys have both."""
    digits = sum(map(str.isdigit, word))
    return digits >= len(word) // 6 and any(map(str.isalpha, word))


class History(FileHistory):
    """What was typed, in ``path`` (mode 0600). What is not ``kept``, and what is not harmless, is known for the session alone."""

    def __init__(self, path: Path, kept: Callable[[str], bool]) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        super().__init__(path)
        self._kept = kept

    def store_string(self, string: str) -> None:
        """Write ``string``, if it may be written."""
        if harmless(string) and self._kept(string):
            super().store_string(string)


def history_file() -> Path:
    """Where it is: ``history`` in the state directory."""
    return state_directory() / "history"
