"""The names that live in a node: what may stand where an argument says that it takes a provider, a group, an actor or a request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from runestone.console.client import AdminClient, Refused, Unreachable
from runestone.console.commands import Live

_SECONDS: Final = 1.0  # to wait for the node, and to remember what it said
_ROUTES: Final[Mapping[Live, str]] = {
    "providers": "/v1/providers",
    "groups": "/v1/groups",
    "actors": "/v1/tree",
    "requests": "/v1/names/requests",
}


def live_names(kind: Live, socket: Path) -> list[str]:
    """Those of ``kind`` in the node that listens on ``socket``, sorted; none where it does not answer at once."""
    try:
        answer = AdminClient(socket, _SECONDS).request("GET", _ROUTES[kind])
    except (Unreachable, Refused, TimeoutError):
        return []
    match kind:
        case "actors":
            return sorted(_of_actors(answer["tree"]))
        case "requests":
            return sorted(answer["names"])
        case _:
            return sorted(str(one["name"]) for one in answer[kind])


class LiveNames:
    """Asks for names and remembers them for a second, so that one press of Tab asks once."""

    def __init__(self, socket: Callable[[], Path]) -> None:
        self._socket = socket
        self._known: dict[tuple[Path, Live], tuple[float, list[str]]] = {}

    def __call__(self, kind: Live) -> list[str]:
        """The names of ``kind``."""
        socket = self._socket()
        at, names = self._known.get((socket, kind), (0.0, []))
        if (now := time.monotonic()) - at > _SECONDS or not names:
            names = live_names(kind, socket)
            self._known[socket, kind] = now, names
        return names


def _of_actors(node: Mapping[str, Any]) -> Iterator[str]:
    """The name of each that has one, else its path."""
    yield str(node["name"] or node["path"])
    for child in node["children"]:
        yield from _of_actors(child)
