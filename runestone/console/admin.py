"""The admin API on the unix socket: GET reads, POST acts. The file mode of the socket is its access check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from attrs import frozen
from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runestone.api import Node, NodeError, tree_as_data

Body = dict[str, Any]
Action = Callable[[str, Body], Awaitable[dict[str, Any]]]

_STATUS: Final = {"not_found": 404, "conflict": 409, "refused": 400, "unavailable": 503, "not_enabled": 400}


@frozen
class Actions:
    """What can be asked of one node; each action gets the name in the route and the body."""

    node: Node

    async def status(self, _: str, __: Body) -> dict[str, Any]:
        """The node on one screen."""
        return self.node.status()

    async def tree(self, _: str, __: Body) -> dict[str, Any]:
        """The supervision tree."""
        return {"tree": tree_as_data(self.node.tree())}

    async def providers(self, _: str, __: Body) -> dict[str, Any]:
        """All providers."""
        return {"providers": self.node.providers()}

    async def provider(self, name: str, _: Body) -> dict[str, Any]:
        """One provider."""
        return {"provider": self.node.provider(name)}

    async def restart(self, name: str, body: Body) -> dict[str, Any]:
        """A clean slate for one provider."""
        return await self.node.restart_provider(name, hard=body.get("hard") is True)

    async def breakers(self, _: str, __: Body) -> dict[str, Any]:
        """All breakers."""
        return {"breakers": [self.node.breaker(name) for name in sorted(self.node.memories)]}

    async def breaker(self, name: str, _: Body) -> dict[str, Any]:
        """One breaker."""
        return {"breaker": self.node.breaker(name)}

    async def reset(self, name: str, _: Body) -> dict[str, Any]:
        """Close a breaker."""
        return {"breaker": await self.node.reset_breaker(name)}

    async def trip(self, name: str, body: Body) -> dict[str, Any]:
        """Force a breaker open."""
        return {"breaker": await self.node.trip_breaker(name, body.get("seconds"))}

    async def failover(self, name: str, _: Body) -> dict[str, Any]:
        """A group and its statistics."""
        return {"failover": await self.node.failover_stats(name)}

    async def fault(self, name: str, body: Body) -> dict[str, Any]:
        """Switch the fault of a simulated provider."""
        return await self.node.set_fault(name, str(body.get("spec", "none")))

    async def crash(self, _: str, body: Body) -> dict[str, Any]:
        """Crash a process."""
        return self.node.crash(str(body.get("name", "")))


def app(node: Node) -> Starlette:
    """The ASGI app of the admin socket over ``node``."""
    actions = Actions(node)
    routes: list[tuple[str, str, Action]] = [
        ("GET", "/v1/status", actions.status),
        ("GET", "/v1/tree", actions.tree),
        ("GET", "/v1/providers", actions.providers),
        ("GET", "/v1/providers/{name}", actions.provider),
        ("POST", "/v1/providers/{name}/restart", actions.restart),
        ("POST", "/v1/providers/{name}/fault", actions.fault),
        ("GET", "/v1/breakers", actions.breakers),
        ("GET", "/v1/breakers/{name}", actions.breaker),
        ("POST", "/v1/breakers/{name}/reset", actions.reset),
        ("POST", "/v1/breakers/{name}/trip", actions.trip),
        ("GET", "/v1/failover/{name}", actions.failover),
        ("POST", "/v1/crash", actions.crash),
    ]
    return Starlette(
        routes=[Route(path, _endpoint(action), methods=[method]) for method, path, action in routes],
        exception_handlers={404: _no_such_path, 405: _no_such_path},
    )


async def _no_such_path(request: Request, _: Exception) -> Response:
    message = f"there is no {request.method} {request.url.path[:100]}"
    data = {"v": 1, "error": {"code": "not_found", "message": message}}
    return Response(orjson.dumps(data), 404, media_type="application/json")


def _endpoint(action: Action) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            body = _parsed(await request.body())
            data, code = {"v": 1, **await action(request.path_params.get("name", ""), body)}, 200
        except NodeError as error:
            data = {"v": 1, "error": {"code": error.reason, "message": str(error)}}
            code = _STATUS.get(error.reason, 500)
        if request.method == "POST":
            who = request.headers.get("x-runestone-actor", "unknown")
            logger.info("admin: {} {} by {} (claimed): {}", request.method, request.url.path, who, code)
        return Response(orjson.dumps(data), code, media_type="application/json")

    return endpoint


def _parsed(raw: bytes) -> Body:
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError as error:
        raise NodeError("refused", f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise NodeError("refused", "the body must be a JSON object")
    return body
