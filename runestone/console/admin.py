"""The admin API on the unix socket: GET reads, POST acts. The file mode of the socket is its access check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runestone.api import Node, NodeError, tree_as_data

Action = Callable[[Request, dict[str, Any]], Awaitable[dict[str, Any]]]

_STATUS = {"not_found": 404, "conflict": 409, "refused": 400, "unavailable": 503, "not_enabled": 400}


def app(node: Node) -> Starlette:
    """The ASGI app of the admin socket over ``node``."""
    name = "name"

    async def status(_: Request, __: dict[str, Any]) -> dict[str, Any]:
        return node.status()

    async def tree(_: Request, __: dict[str, Any]) -> dict[str, Any]:
        return {"tree": tree_as_data(node.tree())}

    async def providers(_: Request, __: dict[str, Any]) -> dict[str, Any]:
        return {"providers": node.providers()}

    async def provider(request: Request, _: dict[str, Any]) -> dict[str, Any]:
        return {"provider": node.provider(request.path_params[name])}

    async def restart(request: Request, body: dict[str, Any]) -> dict[str, Any]:
        return await node.restart_provider(request.path_params[name], hard=bool(body.get("hard")))

    async def breakers(_: Request, __: dict[str, Any]) -> dict[str, Any]:
        return {"breakers": [node.breaker(n) for n in sorted(node.memories)]}

    async def breaker(request: Request, _: dict[str, Any]) -> dict[str, Any]:
        return {"breaker": node.breaker(request.path_params[name])}

    async def reset(request: Request, _: dict[str, Any]) -> dict[str, Any]:
        return {"breaker": await node.reset_breaker(request.path_params[name])}

    async def trip(request: Request, body: dict[str, Any]) -> dict[str, Any]:
        return {"breaker": await node.trip_breaker(request.path_params[name], body.get("seconds"))}

    async def failover(request: Request, _: dict[str, Any]) -> dict[str, Any]:
        return {"failover": await node.failover_stats(request.path_params[name])}

    async def fault(request: Request, body: dict[str, Any]) -> dict[str, Any]:
        return await node.set_fault(request.path_params[name], str(body.get("spec", "none")))

    async def crash(request: Request, body: dict[str, Any]) -> dict[str, Any]:
        return node.crash(str(body.get("name", "")))

    routes: list[tuple[str, str, Action]] = [
        ("GET", "/v1/status", status),
        ("GET", "/v1/tree", tree),
        ("GET", "/v1/providers", providers),
        ("GET", "/v1/providers/{name}", provider),
        ("POST", "/v1/providers/{name}/restart", restart),
        ("POST", "/v1/providers/{name}/fault", fault),
        ("GET", "/v1/breakers", breakers),
        ("GET", "/v1/breakers/{name}", breaker),
        ("POST", "/v1/breakers/{name}/reset", reset),
        ("POST", "/v1/breakers/{name}/trip", trip),
        ("GET", "/v1/failover/{name}", failover),
        ("POST", "/v1/crash", crash),
    ]
    return Starlette(routes=[Route(path, _endpoint(action), methods=[method]) for method, path, action in routes])


def _endpoint(action: Action) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            body = orjson.loads(await request.body() or b"{}")
            if not isinstance(body, dict):
                raise NodeError("refused", "the body must be a JSON object")
            data, code = {"v": 1, **await action(request, body)}, 200
        except orjson.JSONDecodeError as error:
            data, code = _error("refused", f"the body is not JSON: {error}"), 400
        except NodeError as error:
            data, code = _error(error.reason, str(error)), _STATUS.get(error.reason, 500)
        if request.method == "POST":
            who = request.headers.get("x-runestone-actor", "unknown")
            logger.info("admin: {} {} by {} (claimed): {}", request.method, request.url.path, who, code)
        return Response(orjson.dumps(data), code, media_type="application/json")

    return endpoint


def _error(reason: str, message: str) -> dict[str, Any]:
    return {"v": 1, "error": {"code": reason, "message": message}}
