"""What somebody may have meant who has named what is not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from runestone.console.client import AdminClient, Refused, Unreachable
from runestone.console.commands import Live


def near(name: str, names: Iterable[str]) -> str | None:
    """The name most like ``name``, as a question."""
    close = get_close_matches(name, list(names), 1)
    return f"did you mean {close[0]}?" if close else None


def live_names(client: AdminClient, kind: Live) -> list[str]:
    """The names of what runs; none where the node does not tell."""
    try:
        match kind:
            case "providers":
                return sorted(client.request("GET", "/v1/status")["providers"])
            case "groups":
                return [group["name"] for group in client.request("GET", "/v1/groups")["groups"]]
            case "actors":
                return list(_actors(client.request("GET", "/v1/tree")["tree"]))
            case _:
                return []
    except (Unreachable, Refused, TimeoutError):
        return []


def _actors(node: Mapping[str, Any]) -> Iterator[str]:
    yield node["name"] or node["path"]
    for child in node["children"]:
        yield from _actors(child)
