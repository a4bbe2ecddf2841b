"""``GET /openapi.json``: the public port described for tools. What a provider judges is left open, as it is in the gateway."""

from __future__ import annotations

from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

import runestone
from runestone.domain.errors import InvalidRequest
from runestone.http.apis import ROUTES, Route
from runestone.http.exchange import Exchange

Schema = dict[str, Any]
PATH: Final = "/openapi.json"

_TEXT: Final[Schema] = {"type": "string"}
_OPEN: Final[Schema] = {"type": "object", "additionalProperties": True}
_QUESTIONS: Final[dict[str, Schema]] = {
    "messages": {"type": "array", "minItems": 1, "items": _OPEN},
    "input": {"oneOf": [_TEXT, {"type": "array"}]},
    "prompt": {"oneOf": [_TEXT, {"type": "array"}]},
}
#: Every status that the gateway answers with by itself; those of a provider of the same wire may be others.
_ERRORS: Final = {
    400: "The request cannot be served as it is; the message says what to change.",
    401: "No inbound key, or a wrong one.",
    402: "The provider wants to be paid (Anthropic's wire).",
    403: "The key may not do this, or the caller may not ask at all.",
    404: "There is no such model, or no such path.",
    405: "The route takes another method.",
    408: "The body did not come in time.",
    409: "The provider says that the idempotency key is in use.",
    413: "The body is too large.",
    415: "The body is no application/json.",
    422: "The provider cannot process the request.",
    429: "Every provider is throttled, or the quota is spent.",
    431: "Too many headers.",
    500: "The gateway failed, or the provider did (Anthropic's wire).",
    502: "The provider failed.",
    503: "No provider takes requests now, or the gateway is draining.",
    504: "No provider answered in time.",
    505: "HTTP/1.1 is spoken here.",
    529: "The provider is overloaded (Anthropic's wire).",
}
_SHAPES: Final[dict[str, Schema]] = {
    "openai": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": _TEXT,
                    "type": _TEXT,
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    },
    "anthropic": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": _TEXT, "message": _TEXT},
            },
            "request_id": {"type": ["string", "null"]},
        },
    },
}
_GROUP: Final[Schema] = {
    "name": "x-runestone-group",
    "in": "header",
    "required": False,
    "description": "The failover group.",
    "schema": _TEXT,
}


async def describe(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the description."""
    exchange: Exchange = scope["runestone.exchange"]
    exchange.route = PATH
    if scope["method"] != "GET":
        raise InvalidRequest("This route takes GET only.", status=405, code="method_not_allowed")
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_DOCUMENT))]
    await exchange.send({"type": "http.response.start", "status": 200, "headers": head})
    await exchange.send({"type": "http.response.body", "body": _DOCUMENT})


def document() -> Schema:
    """The description as a value."""
    paths: dict[str, Schema] = {route.path: {"post": _question(route)} for route in ROUTES}
    paths["/v1/models"] = {"get": _models(many=True)}
    paths["/v1/models/{model}"] = {"get": _models(many=False)}
    bearer = {"type": "http", "scheme": "bearer"}
    header = {"type": "apiKey", "in": "header", "name": "x-api-key"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Runestone", "version": runestone.__version__},
        "paths": paths,
        "components": {"securitySchemes": {"bearer": bearer, "header": header}},
        "security": [{}, {"bearer": []}, {"header": []}],
    }


def _question(route: Route) -> Schema:
    properties: Schema = {"model": {"type": "string", "minLength": 1}, route.needs: _QUESTIONS[route.needs]}
    answer: Schema = {"application/json": {"schema": _OPEN}}
    if route.streams:
        properties["stream"] = {"type": ["boolean", "null"]}
        answer["text/event-stream"] = {"schema": _TEXT}
    body = {"type": "object", "required": ["model", route.needs], "properties": properties}
    return {
        "operationId": route.api,
        "parameters": [_GROUP],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": _example(route)}},
        },
        "responses": {"200": {"description": "The answer.", "content": answer}, **_errors(route.wire)},
    }


def _example(route: Route) -> Schema:
    hello = "Hello"
    asked: Any = [{"role": "user", "content": hello}] if route.needs == "messages" else hello
    model = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-4o-mini"}[route.wire]
    return {"model": model, route.needs: asked} | ({"max_tokens": 100} if route.api == "messages" else {})


def _models(*, many: bool) -> Schema:
    where = [{"name": "model", "in": "path", "required": True, "schema": _TEXT}]
    return {
        "operationId": "models" if many else "model",
        "parameters": [] if many else where,
        "responses": {
            "200": {"description": "What may be asked for.", "content": {"application/json": {"schema": _OPEN}}},
            **_errors("openai"),
        },
    }


def _errors(wire: str) -> Schema:
    content = {"application/json": {"schema": _SHAPES[wire]}}
    return {str(status): {"description": text, "content": content} for status, text in _ERRORS.items()}


_DOCUMENT: Final = orjson.dumps(document())
