"""Learning that the client has left.

hypercorn announces ASGI 2.1: after the client has gone, ``send`` raises nothing, only ``receive`` says ``http.disconnect``. So somebody
must listen from before the upstream call on. :class:`UntilDisconnect` is to a leaving client what ``asyncio.timeout`` is to a deadline: it
cancels the block in it and turns that cancellation, and no other, into :class:`~runestone.http.body.ClientGone`.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from runestone.http.body import ClientGone
from runestone.http.exchange import Exchange

_PATIENCE_SECONDS: Final = 0.05  # an answer that is quicker needs no listener, whose task costs more than the timer


class UntilDisconnect:
    """``with UntilDisconnect(exchange): ...`` after the whole body has been read. Raises :class:`ClientGone`."""

    __slots__ = ("_exchange", "_gone", "_task", "_timer", "_watcher")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._gone = False
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = task.get_loop().call_later(_PATIENCE_SECONDS, self._listen)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None  # whose end holds its frame, and that frame this
        if self._gone and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientGone from None

    def _listen(self) -> None:
        self._watcher = self._task.get_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._exchange.receive())["type"] != "http.disconnect":
            pass
        if not self._exchange.complete:  # the server says so too when the answer is whole
            self._gone = True
            self._task.cancel()
