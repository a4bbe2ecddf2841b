"""The health port: the guide's four paths, liveness and readiness, metrics. It reads, never acts, and never calls upstream."""

from __future__ import annotations

from typing import Final

import orjson
from attrs import frozen
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runestone.http import accept
from runestone.operations.errors import OperationError
from runestone.operations.node import Node

_NO_STORE: Final = {"cache-control": "no-store"}
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


def json_answer(data: object, status: int = 200) -> Response:
    """``data`` as JSON, never cached."""
    return Response(orjson.dumps(data), status, _NO_STORE, "application/json")


@frozen
class Health:
    """The handlers over one node."""

    node: Node

    async def health(self, _: Request) -> Response:
        """One word; 503 where a load balancer should go elsewhere."""
        word = self.node.health()
        return json_answer({"status": word}, 200 if word in ("healthy", "degraded") else 503)

    async def detailed(self, _: Request) -> Response:
        """The whole system."""
        if self.node.root is None:
            return json_answer({"status": "starting"}, 503)
        return json_answer(self.node.detailed())

    async def providers(self, _: Request) -> Response:
        """Every provider, by name."""
        return json_answer({"providers": {p["name"]: p for p in self.node.providers()}})

    async def provider(self, request: Request) -> Response:
        """One provider."""
        try:
            return json_answer(self.node.provider(request.path_params["name"]))
        except OperationError as error:
            return json_answer({"error": {"code": error.reason, "message": str(error)}}, 404)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text; plain numbers for who would rather have JSON, or asks for ``?format=json``."""
        match request.query_params.get("format"):
            case "json":
                as_json = True
            case "text" | "prometheus":
                as_json = False
            case None:
                as_json = accept.prefers_json(request.headers.get("accept", ""))
            case _:
                return json_answer({"error": {"code": "invalid", "message": "format is json or text"}}, 400)
        if as_json:
            answer = json_answer(self.node.provider_metrics())
        else:
            answer = Response(await self.node.metrics.rendered(), 200, _NO_STORE, _PROMETHEUS)
        answer.headers["vary"] = "Accept"
        return answer

    async def live(self, _: Request) -> Response:
        """Whether the loop and the root supervisor answer."""
        return json_answer({"status": "live"}) if self.node.alive() else json_answer({"status": "dead"}, 503)

    async def ready(self, _: Request) -> Response:
        """Whether all of the tree is there, its listeners are bound, and the node is not draining."""
        if self.node.phase.draining:
            return json_answer({"status": "draining"}, 503)
        missing = self.node.unbound()
        if missing or self.node.root is None:
            return json_answer({"status": "starting", "unbound": missing}, 503)
        return json_answer({"status": "ready"})


def app(node: Node) -> Starlette:
    """The ASGI app of the health port over ``node``."""
    health = Health(node)
    handlers = {
        "/health": health.health,
        "/health/detailed": health.detailed,
        "/health/providers": health.providers,
        "/health/providers/{name}": health.provider,
        "/health/metrics": health.metrics,
        "/metrics": health.metrics,
        "/health/live": health.live,
        "/health/ready": health.ready,
        "/health/liveliness": health.live,  # as LiteLLM calls them
        "/health/readiness": health.ready,
    }
    return Starlette(routes=[Route(path, handler, methods=["GET"]) for path, handler in handlers.items()])
