"""The admin API on the unix socket: GET reads, POST acts (an estimate only reads); what comes is told as server-sent events to who asks so.

The file mode of the socket is its access check.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import orjson
from attrs import frozen
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from runestone.console import tails
from runestone.operations.actions import Actions, Dispatch
from runestone.operations.audit import Who
from runestone.operations.errors import OperationError
from runestone.telemetry.logs import masked

CONNECTIONS: Final = 100  # at once: above it one is told to come back
_STATUS: Final = {
    "denied": 403,
    "not_found": 404,
    "conflict": 409,
    "too_large": 413,
    "timeout": 504,
    "unavailable": 503,
    "failed": 500,
}
_BODY_BYTES: Final = 1024 * 1024
_WITH_REQUESTS: Final = frozenset(
    {"/v1/chat", "/v1/costs/estimate"}
)  # their bodies hold what a client of the API sends
_FRESH: Final = {"cache-control": "no-cache"}
Told = AsyncGenerator[dict[str, Any], None]
Begin = Callable[[Request], Awaitable[Told]]
Endpoint = Callable[[Request], Awaitable[Response]]
_BODY_SECONDS: Final = 30.0
_DEPTH: Final = 100  # of lists and objects in each other
_DRAIN_SECONDS: Final = 1.0  # for who is refused in the middle of a body to see why
#: What is more than to look, and so is not for observers.
_OPERATES: Final = ("/trace", "/stacks")


def app(actions: Actions, *, observes: bool = False) -> Starlette:
    """The ASGI app of the admin socket, or of that for observers, who look and do nothing else."""
    admin = _Admin(actions, Dispatch(actions), observes)
    return Starlette(
        routes=[
            Route("/v1/chat", admin.in_lines(admin.chat), methods=["POST"]),
            Route("/v1/actors/{name:path}/trace", admin.in_lines(admin.trace), methods=["GET"]),
            Route("/v1/events/export", admin.in_lines(admin.export), methods=["GET"]),
            *(Route(path, admin.tailed, methods=["GET"]) for path in tails.ENTRIES),
            Route("/{path:path}", admin.operation, methods=["GET", "POST"]),
        ],
        exception_handlers={404: _no_such_path, 405: _no_such_path, 500: _bug, ClientDisconnect: _nobody},
    )


@frozen
class _Admin:
    """What is answered, and how."""

    actions: Actions
    dispatch: Dispatch
    observes: bool

    async def operation(self, request: Request) -> Response:
        """One object."""
        try:
            self._permit(request)
            body = await self._body(request) if request.method == "POST" else dict(request.query_params)
            path = _path(request)
            dry_run = request.method == "POST" and request.query_params.get("dry_run") in ("true", "1")
            data = await self.dispatch(request.method, path, body, _who(request), dry_run=dry_run)
        except OperationError as error:
            return _refused(error)
        return Response(orjson.dumps({"v": 1, **data}, default=str), media_type="application/json")

    async def tailed(self, request: Request) -> Response:
        """One object, or for who wants events what is there and what comes."""
        if "text/event-stream" not in request.headers.get("accept", ""):
            return await self.operation(request)
        path = request.url.path
        query = tails.resumed(request.query_params, request.headers.get("last-event-id"))
        ask = partial(self.dispatch, "GET", path, who=_who(request))
        try:
            events = tails.tail(ask, path, query, await ask(query), self.actions.node.phase.ends)
        except OperationError as error:
            return _refused(error)
        return StreamingResponse(_closing(events), media_type="text/event-stream", headers=_FRESH)

    def in_lines(self, begin: Begin) -> Endpoint:
        """One object a line."""

        async def endpoint(request: Request) -> Response:
            try:
                self._permit(request)
                told = await begin(request)
            except OperationError as error:
                return _refused(error)
            return StreamingResponse(_lines(told), media_type="application/x-ndjson")

        return endpoint

    async def chat(self, request: Request) -> Told:
        """The events of a chat."""
        return self.actions.chat(await self._body(request))

    async def trace(self, request: Request) -> Told:
        """The messages that an actor handles."""
        return self.actions.trace(request.path_params["name"], dict(request.query_params))

    async def export(self, request: Request) -> Told:
        """All that is remembered."""
        return self.actions.export(dict(request.query_params))

    def _permit(self, request: Request) -> None:
        """Raises :class:`OperationError` ``denied``."""
        looks = self.dispatch.reads(request.method, _path(request)) and not request.url.path.endswith(_OPERATES)
        if self.observes and not looks:
            what = f"{request.method} {request.url.path[:100]}"
            raise OperationError("denied", f"this socket is for observers; {what} is for the admin socket beside it")

    async def _body(self, request: Request) -> dict[str, Any]:
        """The JSON object that was sent; what a client may send to the API, an operator may ask about."""
        most = _BODY_BYTES
        if request.url.path in _WITH_REQUESTS and not self.observes:
            most = max(most, self.actions.node.settings.server.body_limit_bytes)
        return await _body(request, most)


def _path(request: Request) -> str:
    """As it was sent: a name may hold a slash."""
    return str(request.scope["raw_path"].decode("ascii"))


async def _closing(parts: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(parts) as told:
        async for part in told:
            yield part


async def _lines(events: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[bytes]:
    """One JSON object a line; an error is the last one."""
    try:
        async with aclosing(events) as told:
            async for event in told:
                yield orjson.dumps(event) + b"\n"
    except OperationError as error:
        yield orjson.dumps({"type": "error", **_error(error)}) + b"\n"


def _who(request: Request) -> Who:
    """Who asks: the server has asked the kernel, when the connection came."""
    pid, uid = request.scope.get("state", {}).get("peer") or (None, None)
    claimed = request.headers.get("x-runestone-actor", "unknown")
    return Who(claimed=claimed, uid=uid, pid=pid, reason=request.query_params.get("reason") or None)


def _error(error: OperationError) -> dict[str, Any]:
    """A key may have been pasted into the wrong place: it is not told, not even to who has sent it."""
    return {"code": error.reason, "message": _masked(str(error)), "problems": [_masked(one) for one in error.problems]}


def _masked(text: str) -> str:
    return "\n".join(map(masked, text.splitlines()))


def _refused(error: OperationError) -> Response:
    content = orjson.dumps({"v": 1, "error": _error(error)})
    kind = _Unread if error.reason in ("too_large", "denied") else Response
    return kind(content, _STATUS.get(error.reason, 400), media_type="application/json")


async def _no_such_path(request: Request, _: Exception) -> Response:
    return _refused(OperationError("not_found", f"there is no {request.method} {request.url.path[:100]}"))


async def _bug(_: Request, __: Exception) -> Response:
    return _refused(OperationError("failed", "this is a bug; the log of the node has the traceback"))


async def _nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=499)


class _Unread(Response):
    """The answer to a request whose body may not have been read, which ends the connection.

    Hypercorn waits for room for what still comes, inside the application's own ``send``; and a socket that is closed with unread bytes
    takes the answer back. So what comes is thrown away for a moment.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, wait a moment, and close."""
        head = [*self.raw_headers, (b"connection", b"close")]
        drain = asyncio.ensure_future(_drained(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": head})
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            await asyncio.wait({drain}, timeout=_DRAIN_SECONDS)
            await send({"type": "http.response.body", "body": b""})
        finally:
            drain.cancel()


async def _drained(receive: Receive) -> None:
    message: Message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()


async def _body(request: Request, most: int) -> dict[str, Any]:
    """The JSON object that was sent. Raises :class:`OperationError`, ``too_large`` before it is read whole."""
    raw = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            _check_size(int(request.headers.get("content-length", "0")), most)
            async for part in request.stream():
                raw += part
                _check_size(len(raw), most)
    except TimeoutError:
        raise OperationError("timeout", f"the body did not come within {_BODY_SECONDS:g} s") from None
    return _parsed(bytes(raw))


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise OperationError("too_large", f"the body is larger than {most} bytes")


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError as error:
        raise OperationError("refused", f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise OperationError("refused", "the body must be a JSON object")
    if raw.count(b"[") + raw.count(b"{") > _DEPTH and _deeper(body, _DEPTH):
        raise OperationError("refused", f"the body has more than {_DEPTH} lists and objects in each other")
    return body


def _deeper(body: dict[str, Any], most: int) -> bool:
    level: list[Any] = [body]
    for _ in range(most):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True
