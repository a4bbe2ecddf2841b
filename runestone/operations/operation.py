"""One line of the table of operations: what may be asked of a node, by whom, and what is told of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import Factory, field, frozen

from runestone.telemetry.logs import masked

Body = Mapping[str, Any]
Action = Callable[[str, Body], Awaitable[dict[str, Any]]]


@frozen
class Operation:
    """GET reads, and POST acts unless it ``reads`` all the same, its body being no query. What reads is for observers, and off the record.

    ``about``: the key of the body that names what an act is about, where the path does not. ``tells``: the key without which the record of
    an act would not say what was done.
    """

    method: str
    path: str
    action: Action
    reads: bool = field(default=Factory(lambda self: self.method == "GET", takes_self=True), kw_only=True)
    about: str = field(default="name", kw_only=True)
    tells: str | None = field(default=None, kw_only=True)

    @property
    def route(self) -> str:
        """By which it is counted, whatever it is about."""
        return f"{self.method} {self.path}"

    def told(self, path: str, body: Body) -> str:
        """How the record calls it, asked as ``path``."""
        about = () if self.tells is None else (masked(str(body.get(self.tells))),)
        return " ".join((self.method, path, *about))
