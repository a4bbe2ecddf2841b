"""What comes, as it comes, for a browser's ``EventSource`` or ``curl -N``: server-sent events over the answers that are asked for again.

An event's ``id`` is its number, so whoever comes back with ``Last-Event-ID`` goes on where it was; what the memory has forgotten
meanwhile is told as an event ``missed``. When the node stops, ``bye`` is the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import orjson

ENTRIES: Final = {
    "/v1/events": "events",
    "/v1/log/lines": "lines",
}  # the answers that have a tail, and where their entries are
_PAUSE_SECONDS: Final = 0.25
_PING_SECONDS: Final = 15.0
_TURN: Final = 50  # entries that are written without a pause

Ask = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


async def tail(
    ask: Ask, path: str, query: Mapping[str, Any], first: Mapping[str, Any], ends: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    """The entries of ``first``, the answer to ``query``, then those that come until the node ``ends``; a comment while there are none.

    Others have their turns meanwhile, however quickly somebody reads.
    """
    loop, data = asyncio.get_running_loop(), first
    quiet_since = loop.time()
    yield b": here\n\n"
    while True:
        if data["missed"]:
            yield b'event: missed\ndata: {"missed":%d}\n\n' % data["missed"]
        for at in range(0, len(data[ENTRIES[path]]), _TURN):
            yield b"".join(_told(path, entry) for entry in data[ENTRIES[path]][at : at + _TURN])
            await asyncio.sleep(0)
        if ends.is_set():
            yield b'event: bye\ndata: {"reason":"stopping"}\n\n'
            return
        now = loop.time()
        if data[ENTRIES[path]]:
            quiet_since = now
        elif now - quiet_since >= _PING_SECONDS:
            quiet_since = now
            yield b": ping\n\n"
        if not data[ENTRIES[path]]:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_SECONDS):
                    await ends.wait()
        data = await ask({**{k: v for k, v in query.items() if k != "limit"}, "since": data["next"]})


def _told(path: str, entry: Mapping[str, Any]) -> bytes:
    kind = str(entry.get("event", "line")) if path == "/v1/events" else "line"
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (entry["seq"], kind.encode(), orjson.dumps(entry, default=str))


def resumed(query: Mapping[str, Any], last_id: str | None) -> dict[str, Any]:
    """``query``, behind the event that a client has had last."""
    return dict(query) if last_id is None else {**query, "since": last_id}
