"""The admin API on the unix socket: GET reads, POST acts. The file mode of the socket is its access check."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from runestone.operations.actions import Actions, Dispatch
from runestone.operations.errors import OperationError

_STATUS: Final = {
    "not_found": 404,
    "conflict": 409,
    "timeout": 504,
    "unavailable": 503,
    "failed": 500,
}


def app(actions: Actions) -> Starlette:
    """The ASGI app of the admin socket."""
    dispatch = Dispatch(actions)

    async def operation(request: Request) -> Response:
        try:
            body = _parsed(await request.body()) if request.method == "POST" else dict(request.query_params)
            path = request.scope["raw_path"].decode("ascii")
            data, code = await dispatch(request.method, path, body, _who(request)), 200
        except OperationError as error:
            return _refused(error)
        return Response(orjson.dumps({"v": 1, **data}, default=str), code, media_type="application/json")

    async def chat(request: Request) -> Response:
        try:
            events = actions.chat(_parsed(await request.body()))
        except OperationError as error:
            return _refused(error)
        return StreamingResponse(_lines(events), media_type="application/x-ndjson")

    async def trace(request: Request) -> Response:
        try:
            events = actions.trace(request.path_params["name"], dict(request.query_params))
        except OperationError as error:
            return _refused(error)
        return StreamingResponse(_lines(events), media_type="application/x-ndjson")

    async def export(request: Request) -> Response:
        try:
            told = actions.export(dict(request.query_params))
        except OperationError as error:
            return _refused(error)
        return StreamingResponse(_lines(told), media_type="application/x-ndjson")

    return Starlette(
        routes=[
            Route("/v1/chat", chat, methods=["POST"]),
            Route("/v1/actors/{name:path}/trace", trace, methods=["GET"]),
            Route("/v1/events/export", export, methods=["GET"]),
            Route("/{path:path}", operation, methods=["GET", "POST"]),
        ],
        exception_handlers={404: _no_such_path, 405: _no_such_path},
    )


async def _lines(events: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[bytes]:
    """One JSON object a line; an error is the last one."""
    try:
        async with aclosing(events) as told:
            async for event in told:
                yield orjson.dumps(event) + b"\n"
    except OperationError as error:
        yield orjson.dumps({"type": "error", **_error(error)}) + b"\n"


def _who(request: Request) -> str:
    return request.headers.get("x-runestone-actor", "unknown")


def _error(error: OperationError) -> dict[str, Any]:
    return {"code": error.reason, "message": str(error), "problems": list(error.problems)}


def _refused(error: OperationError) -> Response:
    data = {"v": 1, "error": _error(error)}
    return Response(orjson.dumps(data), _STATUS.get(error.reason, 400), media_type="application/json")


async def _no_such_path(request: Request, _: Exception) -> Response:
    error = OperationError("not_found", f"there is no {request.method} {request.url.path[:100]}")
    return _refused(error)


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError as error:
        raise OperationError("refused", f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise OperationError("refused", "the body must be a JSON object")
    return body
