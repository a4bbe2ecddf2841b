"""hypercorn's HTTP/1.1 with two cures. Both lean on private parts of one minor version; tests from outside guard them."""

from __future__ import annotations

import h11
import hypercorn.protocol
from hypercorn.events import Closed, Event, Updated
from hypercorn.protocol.h11 import H11Protocol


class Http11(H11Protocol):
    """One connection."""

    async def handle(self, event: Event) -> None:
        """Forget an idle connection when its client closes it: hypercorn would keep its socket and tasks until the keep-alive is over."""
        await super().handle(event)
        if isinstance(event, Closed) and self.stream is None:
            await self.send(Updated(idle=False))

    async def _check_protocol(self, event: h11.Request) -> None:
        """No upgrade: hypercorn turns plain connections to HTTP/2 whenever asked, and cannot be told not to."""


def install() -> None:
    """Make hypercorn use it."""
    hypercorn.protocol.H11Protocol = Http11  # type: ignore[attr-defined] # it does not export it
