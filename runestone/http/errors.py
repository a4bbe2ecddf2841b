"""Errors as each wire shows them: status, shape and headers are chosen here and nowhere else."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import orjson

from runestone.domain.errors import RunestoneError, UpstreamFailed

Headers = list[tuple[bytes, bytes]]
#: How errors look to a client: ``responses`` differs from ``openai`` inside a stream only.
Dialect = Literal["openai", "responses", "anthropic"]

_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def status(error: RunestoneError, dialect: Dialect) -> int:
    """The status of the answer. Anthropic has one of its own for an overloaded provider, and none for a gateway before it."""
    if dialect != "anthropic" or not isinstance(error, UpstreamFailed) or error.same_wire:
        return error.status
    if error.failure.kind == "overloaded" or error.failure.status == 503:
        return 529
    return 500 if error.failure.kind == "server_error" else error.status


def body(error: RunestoneError, dialect: Dialect, request_id: str) -> bytes:
    """The JSON body; an upstream of the same wire keeps its own."""
    if (
        isinstance(error, UpstreamFailed)
        and error.same_wire
        and error.failure.body
        and error.failure.kind != "credentials"
    ):
        return error.failure.body
    return orjson.dumps(_anthropic(error, request_id) if dialect == "anthropic" else _openai(error))


def event(error: RunestoneError, dialect: Dialect, request_id: str) -> bytes:
    """The same as an event inside a stream; no end of an answer follows it."""
    match dialect:
        case "openai":
            return b"data: " + orjson.dumps(_openai(error)) + b"\n\n"
        case "responses":
            told = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
            return b"event: error\ndata: " + orjson.dumps({**told, "sequence_number": 0}) + b"\n\n"
        case "anthropic":
            return b"event: error\ndata: " + orjson.dumps(_anthropic(error, request_id)) + b"\n\n"


def headers(error: RunestoneError, size: int) -> Headers:
    """The head of an error answer. SDKs are told when to come back, and not to pile on where it is of no use."""
    out: Headers = [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]
    if error.retry_after_seconds is not None:
        seconds = max(error.retry_after_seconds, 0.0)
        out.append((b"retry-after", str(max(1, math.ceil(seconds))).encode()))
        out.append((b"retry-after-ms", str(math.ceil(seconds * 1000)).encode()))
    if error.should_retry is not None:
        out.append((b"x-should-retry", str(error.should_retry).lower().encode()))
    if isinstance(error, UpstreamFailed) and error.same_wire:
        own = {name for name, _ in out}
        out += [
            (n, v.encode("latin-1")) for n, v in ((k.encode(), v) for k, v in error.failure.headers) if n not in own
        ]
    if error.status == 401:
        out.append((b"www-authenticate", b"Bearer"))
    return out


def _openai(error: RunestoneError) -> dict[str, Any]:
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def _anthropic(error: RunestoneError, request_id: str) -> dict[str, Any]:
    """What has no word of its own in this wire is an error of the request below 500, of the API from there on."""
    shown = status(error, "anthropic")
    kind = _ANTHROPIC_TYPES.get(shown, "invalid_request_error" if shown < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}
