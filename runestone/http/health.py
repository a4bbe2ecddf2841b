"""The health port: the guide's four paths, liveness and readiness, metrics. It reads, never acts, and never calls upstream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runestone.api import Node, NodeError

Handler = Callable[[Request], Awaitable[Response]]

_NO_STORE = {"cache-control": "no-store"}
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def json_answer(data: object, status: int = 200) -> Response:
    """``data`` as JSON, never cached."""
    return Response(orjson.dumps(data), status, _NO_STORE, "application/json")


def app(node: Node) -> Starlette:
    """The ASGI app of the health port over ``node``."""

    async def health(_: Request) -> Response:
        word = node.health()
        return json_answer({"status": word}, 200 if word in ("healthy", "degraded") else 503)

    async def detailed(_: Request) -> Response:
        return json_answer(node.detailed())

    async def providers(_: Request) -> Response:
        return json_answer({"providers": {p["name"]: p for p in node.providers()}})

    async def provider(request: Request) -> Response:
        try:
            return json_answer(node.provider(request.path_params["name"]))
        except NodeError as error:
            return json_answer({"error": {"code": error.reason, "message": str(error)}}, 404)

    async def metrics(request: Request) -> Response:
        wants = request.query_params.get("format") or request.headers.get("accept", "")
        if "json" in wants:
            answer = json_answer(node.metrics.snapshot())
        else:
            answer = Response(node.metrics.render(), 200, _NO_STORE, _PROMETHEUS)
        answer.headers["vary"] = "accept"
        return answer

    async def live(_: Request) -> Response:
        return json_answer({"status": "live"}) if node.alive() else json_answer({"status": "dead"}, 503)

    async def ready(_: Request) -> Response:
        if node.phase.draining:
            return json_answer({"status": "draining"}, 503)
        missing = node.unbound()
        return (
            json_answer({"status": "starting", "unbound": missing}, 503)
            if missing
            else json_answer({"status": "ready"})
        )

    routes: list[tuple[str, Handler]] = [
        ("/health", health),
        ("/health/detailed", detailed),
        ("/health/providers", providers),
        ("/health/providers/{name}", provider),
        ("/health/metrics", metrics),
        ("/metrics", metrics),
        ("/health/live", live),
        ("/health/ready", ready),
    ]
    return Starlette(routes=[Route(path, handler, methods=["GET"]) for path, handler in routes])
