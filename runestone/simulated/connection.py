"""One connection to a simulated provider: requests one after the other, answers with what the fault says, an eye on the client."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import h11
from attrs import define

from runestone.domain.fault_answers import BROKEN_EVENT, BROKEN_JSON, HTML, NOT_JSON
from runestone.domain.faults import NONE, Fault, UnknownFault
from runestone.simulated import hostile
from runestone.simulated.wires import WIRES, Text, Wire

if TYPE_CHECKING:
    from runestone.simulated.server import SimulatedProvider

_READ: Final = 65536
_HIDDEN: Final = frozenset({"authorization", "x-api-key"})
_SHOWN_CHARACTERS: Final = 4  # of a key, and only of one that is much longer
_WITHOUT_BODY: Final = frozenset({204, 304})
_MODEL: Final = {"id": "gpt-4o-mini", "object": "model", "created": 1_760_000_000, "owned_by": "simulated"}
_CLAUDE: Final = {
    "id": "claude-sonnet-4-5",
    "type": "model",
    "display_name": "Simulated",
    "created_at": "2025-10-09T08:53:20Z",
}
_MODELS: Final = {"data": [_CLAUDE], "has_more": False, "first_id": _CLAUDE["id"], "last_id": _CLAUDE["id"]}


class Ended(Exception):
    """The client has left, or was thrown out."""


@define(slots=True)
class Record:
    """One request to the API: ``headers`` by lower-case name and without keys, ``body`` parsed, and what became of it.

    ``outcome`` is ``open``, ``served`` (faults that are whole answers count as such), ``cut`` by a fault, or ``client_gone``.
    """

    path: str
    headers: dict[str, str]
    body: Any
    outcome: str = "open"


class Connection:
    """Serves one client until it leaves."""

    def __init__(
        self,
        provider: SimulatedProvider,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        to_control: bool,
    ) -> None:
        self.busy = False
        self._to_control = to_control
        self._provider = provider
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)
        self._fault = NONE  # of the answer that is being given
        self._given = 0  # bytes of its body

    async def run(self) -> None:
        """Serve. Raises :class:`Ended` or :class:`ConnectionError` at the end, whoever's it was."""
        while True:
            try:
                request, body = await self._request()
            except h11.RemoteProtocolError as error:
                if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    await self._json(error.error_status_hint, {"error": {"message": str(error)}}, close=True)
                raise Ended from None
            self.busy = True
            await self._route(request, body)
            self.busy = False
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                raise Ended
            self._http.start_next_cycle()
            if self._provider.fault.refused and not self._to_control:
                raise Ended

    # -- requests ----------------------------------------------------------------------------------------------------

    async def _request(self) -> tuple[h11.Request, bytes]:
        request: h11.Request | None = None
        parts: list[bytes] = []
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    self._writer.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                self._http.receive_data(await self._reader.read(_READ))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return request, b"".join(parts)
            else:
                raise Ended

    async def _route(self, request: h11.Request, body: bytes) -> None:
        path = urlsplit(request.target.decode("latin-1")).path
        if path.startswith("/_simulated"):
            await self._control(request.method, path, body)
        elif path == "/v1/models":
            self._provider.lists += 1
            anthropic = any(name == b"anthropic-version" for name, _ in request.headers)
            await self._json(200, _MODELS if anthropic else {"object": "list", "data": [_MODEL]})
        elif path in WIRES and request.method == b"POST":
            headers = {k.decode(): _shown(k.decode(), v.decode("latin-1")) for k, v in request.headers}
            record = Record(path, headers, _parsed(body))
            self._provider.note(record)
            await self._answer(record, WIRES[path](self._provider.name))
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
                    await provider.set_fault(body.decode(errors="replace"))
                except UnknownFault as error:
                    await self._json(400, {"error": str(error)})
                else:
                    await self._json(200, provider.state())
            case b"POST", "/_simulated/reset":
                provider.forget()
                await self._json(200, provider.state())
            case _:
                await self._json(404, {"error": "no such path"})

    # -- answers -----------------------------------------------------------------------------------------------------

    async def _answer(self, record: Record, wire: Wire) -> None:
        provider = self._provider
        watcher = asyncio.ensure_future(self._watch())
        self._fault, self._given = provider.draw(), 0
        answer = asyncio.ensure_future(self._write(record, wire, self._fault))
        provider.open_streams += 1
        try:
            await asyncio.wait({watcher, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or isinstance(answer.exception(), ConnectionError):
                provider.gone += 1
                record.outcome = "client_gone"
                raise Ended
            answer.result()
            record.outcome = "served"
        finally:
            self._fault = NONE
            provider.open_streams -= 1
            if record.outcome == "open":
                record.outcome = "cut"
            watcher.cancel()
            answer.cancel()
            await asyncio.gather(watcher, answer, return_exceptions=True)

    async def _watch(self) -> None:
        """Ends when the client does. What it sends meanwhile belongs to its next request."""
        while data := await self._reader.read(_READ):
            self._http.receive_data(data)

    async def _write(self, record: Record, wire: Wire, fault: Fault) -> None:
        body = record.body
        text = Text(self._provider.name, body, fault.tokens) if isinstance(body, dict) else None
        await self._unless(reset=fault.reset, cut=fault.cut, stall=fault.stall)
        if fault.html is not None:
            await self._send(fault.html, "text/html", HTML, _more(fault))
        elif fault.redirect is not None:
            await self._send(fault.redirect, "text/plain", b"elsewhere", [("location", record.path)])
        elif text is not None and text.asked and (told := hostile.answer(fault, body, wire, text)) is not None:
            await self._raw(told, fault)
        elif fault.status is not None and fault.status != 200:
            await self._json(fault.status, wire.error(fault.status), _more(fault))
        elif text is None or not text.asked:
            await self._json(400, wire.error(400))
        elif body.get("stream"):
            await self._stream(body, wire, fault, text)
        else:
            await self._whole(body, wire, fault, text)

    async def _whole(self, body: dict[str, Any], wire: Wire, fault: Fault, text: Text) -> None:
        if fault.error_event:
            await self._json(200, wire.error(500))
        elif fault.garbage or fault.empty or fault.invalid_json:
            nonsense = b"" if fault.empty else NOT_JSON if fault.garbage else BROKEN_JSON
            await self._send(200, "application/json", nonsense)
        else:
            await asyncio.sleep(fault.slow_first_token)
            await self._json(200, wire.whole(body, text))

    async def _stream(self, body: dict[str, Any], wire: Wire, fault: Fault, text: Text) -> None:
        self._head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
        if fault.garbage:
            await self._data(b"data: " + NOT_JSON + b"\n\n")
        elif fault.invalid_json:
            await self._data(BROKEN_EVENT)
        elif fault.error_event:
            await self._data(wire.error_event())
        elif not fault.empty:
            await self._events(body, wire, fault, text)
        await self._end()

    async def _events(self, body: dict[str, Any], wire: Wire, fault: Fault, text: Text) -> None:
        await asyncio.sleep(fault.slow_first_token)
        for number, event in enumerate(wire.events(body, text)):
            await self._unless(
                reset=number == fault.reset_after, cut=number == fault.cut_after, stall=number == fault.stall_after
            )
            if number == fault.invalid_json_after:
                await self._data(BROKEN_EVENT)
            if number == fault.error_event_after:
                await self._data(wire.error_event())
                raise Ended
            await self._data(event)
            if fault.pace:
                await asyncio.sleep(fault.pace)
        if not fault.no_done:
            await self._data(wire.terminal())
        if fault.done_twice:
            await self._data(b"".join([wire.terminal(), *wire.events(body, text)]))

    async def _raw(self, told: Iterator[bytes], fault: Fault) -> None:
        """Send what h11 would not, and close."""
        for data in told:
            self._writer.write(data)
            await self._writer.drain()
            await asyncio.sleep(fault.pace)  # others have their turn, also where the reader keeps up
        raise Ended

    async def _unless(self, *, reset: bool, cut: bool, stall: bool) -> None:
        """Go on, unless one of them is to happen now."""
        if reset or cut:
            await self._writer.drain()
        if reset:
            self._reset()
        if cut:
            raise Ended
        if stall:
            await asyncio.Event().wait()

    def _reset(self) -> None:
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise Ended

    # -- bytes -------------------------------------------------------------------------------------------------------

    async def _json(
        self, status: int, data: Any, more: list[tuple[str, str]] | None = None, *, close: bool = False
    ) -> None:
        more = [*(more or []), *([("connection", "close")] if close else [])]
        await self._send(status, "application/json", json.dumps(data).encode(), more)

    async def _send(self, status: int, kind: str, body: bytes, more: list[tuple[str, str]] | None = None) -> None:
        if status in _WITHOUT_BODY:
            self._head(status, more or [])
        else:
            self._head(status, [("content-type", kind), ("content-length", str(len(body))), *(more or [])])
            await self._data(body)
        await self._end()

    def _head(self, status: int, headers: list[tuple[str, str]]) -> None:
        told = [*headers, ("x-request-id", "req_simulated"), ("x-ratelimit-remaining-requests", "99")]
        self._writer.write(self._http.send(h11.Response(status_code=status, headers=told)) or b"")

    async def _data(self, data: bytes) -> None:
        """Send a part of the body, up to where the fault strikes."""
        fault, start = self._fault, self._given
        self._given += len(data)
        strikes = [at for at in (fault.reset_at, fault.cut_at, fault.stall_at) if at is not None and at <= self._given]
        if strikes:
            data = data[: min(strikes) - start]
        size = 1 if fault.slow else len(data)
        for begin in range(0, len(data), size or 1):
            if fault.slow:
                await asyncio.sleep(fault.slow)
            self._writer.write(self._http.send(h11.Data(data=data[begin : begin + size])) or b"")
            await self._writer.drain()
        if strikes:
            at = min(strikes)
            await self._unless(reset=at == fault.reset_at, cut=at == fault.cut_at, stall=at == fault.stall_at)

    async def _end(self) -> None:
        self._writer.write(self._http.send(h11.EndOfMessage()) or b"")
        await self._writer.drain()


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _more(fault: Fault) -> list[tuple[str, str]]:
    return [] if fault.retry_after is None else [("retry-after", f"{fault.retry_after:g}")]


def _shown(name: str, value: str) -> str:
    if name.lower() not in _HIDDEN:
        return value
    return "***" + (value[-_SHOWN_CHARACTERS:] if len(value) > 4 * _SHOWN_CHARACTERS else "")
