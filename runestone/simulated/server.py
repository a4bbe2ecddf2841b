"""A simulated provider: an HTTP/1.1 server of its own on h11, so that it can fail in every way in which a real one does."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from typing import Any, Final

import h11

from runestone.domain.faults import NONE, Draw, Fault, parse
from runestone.simulated.connection import Connection, Ended, Record
from runestone.simulated.listener import Listener

Connections = dict[asyncio.Task[None], Connection]

_RECORDED: Final = 1000


class SimulatedProvider:
    """Serves both wires on one port, and its control on another, which stays open while the first refuses connections.

    - ``GET /_simulated``: what it has seen, see :meth:`state`
    - ``PUT /_simulated/fault``: the text of a fault, in force once the answer comes
    - ``GET /_simulated/requests``: the last 1000 requests to the API, oldest first, see :class:`~.connection.Record`
    - ``POST /_simulated/reset``: forget the requests and the counts; the fault stays
    """

    def __init__(self, *, name: str, seed: int = 0) -> None:
        self.name = name
        self.fault: Fault = NONE
        self.spec = "none"
        self.open_streams = 0
        self.gone = 0
        self.requests = 0
        self.lists = 0  # of models that were asked for
        self.records: deque[Record] = deque(maxlen=_RECORDED)
        self._random = random.Random(seed)
        self._host = "127.0.0.1"
        self._api = Listener(self._accept_api)
        self._control = Listener(self._accept_control)
        self._connections: Connections = {}
        self._controls: Connections = {}
        self._closed = False
        self._draw = Draw(NONE, self._random.random)

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"http://{self._host}:{self._api.port}/v1"

    @property
    def control_url(self) -> str:
        """Where it is controlled, also while it refuses connections."""
        return f"http://{self._host}:{self._control.port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on ``port`` (0 for any), and on another one for the control. Raises :class:`OSError` if ``port`` is taken."""
        self._host = f"[{host}]" if ":" in host else host
        await self._api.open(host, port)
        await self._control.open(host, 0)

    async def reopen(self) -> None:
        """Listen where it did before it was closed. Raises :class:`OSError` if somebody else does now."""
        if not self._closed:
            return
        await self._api.reopen()
        await self._control.reopen()
        self._closed = False
        if self.fault.refused:
            await self._api.refuse()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        self._closed = True
        self._api.close()
        self._control.close()
        tasks = [*self._connections, *self._controls]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def set_fault(self, spec: str) -> None:
        """Switch to the fault ``spec``. Raises :class:`~runestone.domain.faults.UnknownFault`."""
        self.fault, self.spec = parse(spec), spec.strip() or "none"
        self._draw = Draw(self.fault, self._random.random)
        if self.fault.seed is not None:
            self._random.seed(self.fault.seed)
        if not self.fault.refused:
            await self._api.listen()
            return
        await self._api.refuse()
        for task, connection in self._connections.items():
            if not connection.busy:
                task.cancel()

    def state(self) -> dict[str, Any]:
        """What it has seen. Connections to the control are not counted, requests to it neither."""
        return {
            "name": self.name,
            "fault": self.spec,
            "requests": self.requests,
            "lists": self.lists,
            "open_connections": len(self._connections),
            "open_streams": self.open_streams,
            "disconnects": self.gone,
        }

    def note(self, record: Record) -> None:
        """A request has come."""
        self.records.append(record)
        self.requests += 1

    def forget(self) -> None:
        """Forget all requests."""
        self.records.clear()
        self.requests = self.lists = self.gone = 0

    def draw(self) -> Fault:
        """The fault of the next request."""
        return self._draw.next()

    def _accept_api(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault.refused:  # it came before the port was closed
            writer.transport.abort()
        else:
            self._accept(self._connections, reader, writer)

    def _accept_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accept(self._controls, reader, writer)

    def _accept(self, connections: Connections, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve in a task of our own: one of asyncio's streams could not be cancelled without a complaint."""
        if self._closed:
            writer.transport.abort()
            return
        connection = Connection(self, reader, writer, to_control=connections is self._controls)
        task = asyncio.ensure_future(_serve(connection, writer))
        connections[task] = connection
        task.add_done_callback(connections.__delitem__)


async def _serve(connection: Connection, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError, Ended, h11.LocalProtocolError):
            await connection.run()
    except asyncio.CancelledError:  # thrown out: what it has not read is not kept for it
        writer.transport.abort()
        raise
    finally:
        writer.close()
