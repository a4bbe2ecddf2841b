"""The history of a provider as operators ask for it: why it is as it is, and what other settings would have made of it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from attrs import frozen

from runestone.operations import ceilings
from runestone.operations.errors import OperationError
from runestone.operations.node import Node
from runestone.operations.operation import Operation
from runestone.operations.recording import Kept, lines
from runestone.operations.what_if import changes_of, compared
from runestone.operations.why import Standing, explained
from runestone.providers.memory import ProviderMemory
from runestone.telemetry.events import CATALOGUE, AdminActed
from runestone.telemetry.recorder import Wanted, kinds

Body = Mapping[str, Any]
Answer = dict[str, Any]
_CHANGES: Final = 5  # without a word of how many
_DIGITS: Final = 16


@frozen
class HistoryActions:
    """What may be asked of the histories of ``node``. All of it only reads."""

    node: Node

    def table(self) -> list[Operation]:
        """All of them."""
        return [
            Operation("GET", "/v1/providers/{name}/why", self.why),
            Operation("GET", "/v1/breakers/{name}/what-if", self.what_if),
        ]

    async def why(self, name: str, query: Body) -> Answer:
        """Why a provider is as it is, with the ``last`` changes of its breaker; worked out on a thread."""
        count = _count(query.get("last", _CHANGES))
        acted = self.node.recorder.find(Wanted(kinds=frozenset({AdminActed}), limit=ceilings.LISTED)).events
        memory = self._memory(name)
        standing = Standing.of(memory, now=_now(), wall=time.time(), acted=acted)
        status = self.node.status_of(memory)
        return {"why": {"status": status, **await asyncio.to_thread(explained, standing, count)}}

    async def what_if(self, name: str, query: Body) -> Answer:
        """What its breaker would have done with the settings in ``query``; worked out on a thread."""
        memory, changes = self._memory(name), changes_of(query)
        chunks, breaker, until = memory.history.chunks(), memory.breaker, time.time()
        if not chunks:
            raise OperationError("conflict", f"{name} has no history yet: its actor has not begun")

        return {"what_if": {"provider": name, **await asyncio.to_thread(compared, chunks, changes, until, breaker)}}

    def export(self, query: Body) -> AsyncGenerator[Answer, None]:
        """``GET /v1/events/export``: all events and histories, or those that ``name``, ``provider`` and ``since`` choose.

        A provider without telemetry is told of by nobody, so its history stays here.
        """
        name, provider = query.get("name"), query.get("provider")
        if provider is not None:
            self._memory(provider)
        types = None if name is None else kinds(name)
        if types is not None and not types:
            raise OperationError(
                "not_found", f"no event is called {str(name)[:100]!r}; there are {', '.join(CATALOGUE)}"
            )
        since = query.get("since", "0")
        if not (isinstance(since, str) and since.isdecimal() and len(since) < _DIGITS):
            raise OperationError("refused", "since must be a whole number from 0")
        wanted = Wanted(since=int(since), kinds=types, provider=provider, limit=sys.maxsize)
        until = time.time()
        histories = [
            Kept(provider=n, chunks=memory.history.chunks(), breaker=memory.breaker, until=until)
            for n, memory in sorted(self.node.memories.items())
            if provider in (None, n) and memory.settings.telemetry
        ]
        return lines(self.node.recorder.find(wanted).events, histories)

    def _memory(self, name: str) -> ProviderMemory:
        if (memory := self.node.memories.get(name)) is None:
            near = get_close_matches(name, list(self.node.memories), 1)
            hint = (
                f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(self.node.memories)) or 'none'}"
            )
            raise OperationError("not_found", f"there is no provider {name[:100]!r}; {hint}")
        return memory


def _count(value: Any) -> int:
    count = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 5 else value
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= ceilings.LISTED:
        raise OperationError("refused", f"last must be a whole number from 1 to {ceilings.LISTED}")
    return count


def _now() -> float:
    return asyncio.get_running_loop().time()
