"""The line at the bottom of the console, and the prompt: who the node is and how it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runestone.console.repl.link import Link, Seen

_TROUBLES: Final = {
    "away": "reconnecting…",
    "late": "no answer in time…",
    "denied": "the socket may not be opened",
    "refused": "it does not tell how it is",
}


def name(link: Link) -> str:
    """The address of the node's API, by which it differs from its neighbours; else its socket."""
    listeners = (link.seen.status or {}).get("listeners", {})
    return str(listeners.get("public", "")).removeprefix("http://") or str(link.socket)


def text(seen: Seen, *, read_only: bool) -> str:
    """How the node is, on a line."""
    parts = [] if seen.status is None else _parts(seen.status)
    if seen.trouble is not None:
        parts = [_TROUBLES[seen.trouble]]
    elif seen.status is None:
        parts = ["connecting…"]
    return "  ·  ".join([*parts, *(["read only"] if read_only else [])])


def _parts(status: Mapping[str, Any]) -> list[str]:
    """Everything by ``get``: a node of another version may know less."""
    opened = status.get("breakers_open", ())
    rate = status.get("requests_per_second")
    return [
        f"pid {status.get('pid', '?')}",
        str(status.get("phase", "?")),
        str(status.get("status", "?")),
        f"open: {', '.join(opened)}" if opened else "no breaker open",
        f"{rate:.1f} requests/s" if isinstance(rate, int | float) else "? requests/s",
        f"{status.get('in_flight', '?')} in flight",
    ]
