"""A simulated provider: an HTTP/1.1 server of its own on h11, so that it can fail in every way in which a real one does."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import h11
from attrs import define, field

from runestone.simulated.faults import NONE, Fault, UnknownFault, parse
from runestone.simulated.wires import Anthropic, OpenAI, text

_RECORDED: Final = 1000
_READ: Final = 65536
_BACKLOG: Final = 4096
_HIDDEN: Final = frozenset({"authorization", "x-api-key"})
_WIRES: Final[dict[str, type[OpenAI | Anthropic]]] = {"/v1/chat/completions": OpenAI, "/v1/messages": Anthropic}


class _Gone(Exception):
    """The client has left, or was thrown out."""


@define(slots=True)
class Record:
    """One request to the API."""

    path: str
    headers: dict[str, str]
    body: Any
    outcome: str = "open"
    seconds: float = field(factory=time.monotonic)


class SimulatedProvider:
    """Serves both wires on one port, and its control on another."""

    def __init__(self, *, name: str, seed: int = 0) -> None:
        self.name = name
        self.fault: Fault = NONE
        self.spec = "none"
        self.open_streams = 0
        self.gone = 0
        self.requests = 0
        self.records: deque[Record] = deque(maxlen=_RECORDED)
        self._random = random.Random(seed)
        self._host, self._port, self._control_port = "127.0.0.1", 0, 0
        self._server: asyncio.Server | None = None
        self._control: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._left: int | None = None

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"http://{self._host}:{self._port}/v1"

    @property
    def control_url(self) -> str:
        """Where it is controlled, also while it refuses connections."""
        return f"http://{self._host}:{self._control_port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on ``port`` (0 for any), and on another one for the control."""
        self._host, self._port = host, port
        await self._listen()
        self._control = await asyncio.start_server(self._accept, host, 0)
        self._control_port = self._control.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end every connection."""
        for server in (self._server, self._control):
            if server is not None:
                server.close()
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def set_fault(self, spec: str) -> None:
        """Switch to the fault ``spec``. Raises :class:`~runestone.simulated.faults.UnknownFault`."""
        self.fault, self.spec = parse(spec), spec.strip() or "none"
        self._left = self.fault.times
        if self.fault.refused and self._server is not None:
            self._server.close()
            self._server = None
            for task in list(self._connections):
                if task.get_name() == "idle":
                    task.cancel()
        elif not self.fault.refused and self._server is None:
            await self._listen()

    def state(self) -> dict[str, Any]:
        """What it has seen."""
        return {
            "name": self.name,
            "fault": self.spec,
            "requests": self.requests,
            "open_connections": len(self._connections),
            "open_streams": self.open_streams,
            "disconnects": self.gone,
        }

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, self._host, self._port, backlog=_BACKLOG, reuse_address=True
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await _Connection(self, reader, writer).run()
        except (ConnectionError, _Gone, h11.ProtocolError):
            pass
        finally:
            self._connections.discard(task)
            with suppress(ConnectionError, RuntimeError):
                writer.close()

    def draw(self) -> Fault:
        """The fault of the next request: the rate and the count decide."""
        fault = self.fault
        if self._left == 0 or self._random.random() >= fault.rate:
            return Fault(pace=fault.pace, tokens=fault.tokens)
        if self._left is not None:
            self._left -= 1
        return fault


class _Connection:
    """One connection: requests one after the other, an eye on the client all the time."""

    def __init__(self, provider: SimulatedProvider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._provider = provider
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while True:
            task.set_name("idle")
            request, body = await self._request()
            task.set_name("busy")
            await self._route(request, body)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _request(self) -> tuple[h11.Request, bytes]:
        request: h11.Request | None = None
        parts: list[bytes] = []
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return request, b"".join(parts)
            else:
                raise _Gone

    async def _route(self, request: h11.Request, body: bytes) -> None:
        path = urlsplit(request.target.decode("latin-1")).path
        if path.startswith("/_simulated"):
            await self._control(request.method, path, body)
        elif path == "/v1/models":
            model = {"id": "gpt-4o-mini", "object": "model", "created": 1_760_000_000, "owned_by": "simulated"}
            await self._json(200, {"object": "list", "data": [model]})
        elif path in _WIRES and request.method == b"POST":
            headers = {k.decode(): _shown(k.decode(), v.decode("latin-1")) for k, v in request.headers}
            try:
                data = json.loads(body)
            except ValueError:
                data = {}
            record = Record(path, headers, data)
            self._provider.records.append(record)
            self._provider.requests += 1
            await self._answer(record, _WIRES[path](self._provider.name))
        else:
            await self._json(404, {"error": {"message": "no such path", "type": "invalid_request_error"}})

    async def _control(self, method: bytes, path: str, body: bytes) -> None:
        provider = self._provider
        match method, path:
            case b"GET", "/_simulated":
                await self._json(200, provider.state())
            case b"GET", "/_simulated/requests":
                shown = [
                    {"path": r.path, "headers": r.headers, "body": r.body, "outcome": r.outcome}
                    for r in provider.records
                ]
                await self._json(200, {"requests": shown})
            case b"PUT", "/_simulated/fault":
                try:
                    await provider.set_fault(body.decode())
                except UnknownFault as error:
                    await self._json(400, {"error": str(error)})
                else:
                    await self._json(200, provider.state())
            case b"POST", "/_simulated/reset":
                provider.records.clear()
                provider.requests = provider.gone = 0
                await self._json(200, provider.state())
            case _:
                await self._json(404, {"error": "no such path"})

    async def _answer(self, record: Record, wire: OpenAI | Anthropic) -> None:
        provider, fault = self._provider, self._provider.draw()
        watcher = asyncio.ensure_future(self._watch())
        answer = asyncio.ensure_future(self._write(record.body, wire, fault))
        provider.open_streams += 1
        try:
            await asyncio.wait({watcher, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                provider.gone += 1
                record.outcome = "client_gone"
                raise _Gone
            record.outcome = "served" if answer.exception() is None else "cut"
            if (error := answer.exception()) is not None:
                raise error
        finally:
            provider.open_streams -= 1
            for task in (watcher, answer):
                task.cancel()
            await asyncio.wait({watcher, answer})

    async def _watch(self) -> None:
        """Ends when the client does. What it sends meanwhile belongs to its next request."""
        while data := await self._reader.read(_READ):
            self._http.receive_data(data)

    async def _write(self, body: Any, wire: OpenAI | Anthropic, fault: Fault) -> None:
        if fault.reset:
            self._reset()
        if fault.stall:
            await asyncio.Event().wait()
        if fault.html is not None:
            await self._send(fault.html, "text/html", b"<html><body>upstream is unwell</body></html>")
        elif fault.status is not None and fault.status != 200:
            more = [] if fault.retry_after is None else [("retry-after", f"{fault.retry_after:g}")]
            await self._json(fault.status, wire.error(fault.status), more)
        elif isinstance(body, dict) and body.get("stream"):
            await self._stream(body, wire, fault)
        elif fault.error_event:
            await self._json(200, wire.error(500))
        elif fault.garbage or fault.empty:
            await self._send(200, "application/json", b"" if fault.empty else b"<<not json>>")
        else:
            await asyncio.sleep(fault.slow_first_token)
            await self._json(200, wire.whole(body, text(self._provider.name, body, fault.tokens)))

    async def _stream(self, body: dict[str, Any], wire: OpenAI | Anthropic, fault: Fault) -> None:
        self._head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
        if fault.garbage:
            await self._data(b"data: <<not json>>\n\n")
        if fault.error_event:
            await self._data(wire.error_event())
            await self._end()
            return
        events = [] if fault.empty else wire.events(body, text(self._provider.name, body, fault.tokens))
        await asyncio.sleep(fault.slow_first_token)
        for number, event in enumerate(events):
            await self._mishap(number, wire, fault)
            await self._data(event)
            if fault.pace:
                await asyncio.sleep(fault.pace)
        if events and not fault.no_done:
            await self._data(wire.terminal())
        await self._end()

    async def _mishap(self, number: int, wire: OpenAI | Anthropic, fault: Fault) -> None:
        if number == fault.cut_after:
            await self._writer.drain()
            raise _Gone
        if number == fault.reset_after:
            await self._writer.drain()
            self._reset()
        if number == fault.stall_after:
            await asyncio.Event().wait()
        if number == fault.error_event_after:
            await self._data(wire.error_event())
            raise _Gone

    def _reset(self) -> None:
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise _Gone

    async def _json(self, status: int, data: Any, more: list[tuple[str, str]] | None = None) -> None:
        await self._send(status, "application/json", json.dumps(data).encode(), more)

    async def _send(self, status: int, kind: str, body: bytes, more: list[tuple[str, str]] | None = None) -> None:
        self._head(status, [("content-type", kind), ("content-length", str(len(body))), *(more or [])])
        await self._data(body)
        await self._end()

    def _head(self, status: int, headers: list[tuple[str, str]]) -> None:
        self._writer.write(self._http.send(h11.Response(status_code=status, headers=headers)) or b"")

    async def _data(self, data: bytes) -> None:
        self._writer.write(self._http.send(h11.Data(data=data)) or b"")
        await self._writer.drain()

    async def _end(self) -> None:
        self._writer.write(self._http.send(h11.EndOfMessage()) or b"")
        await self._writer.drain()


def _shown(name: str, value: str) -> str:
    return f"***{value[-4:]}" if name.lower() in _HIDDEN else value
