"""Errors as the routes of OpenAI's wire show them: status, shape and headers are chosen here and nowhere else."""

from __future__ import annotations

import math

import orjson

from runestone.domain.errors import RunestoneError, UpstreamFailed

Headers = list[tuple[bytes, bytes]]


def body(error: RunestoneError) -> bytes:
    """The JSON body; an upstream of the same wire keeps its own."""
    if (
        isinstance(error, UpstreamFailed)
        and error.same_wire
        and error.failure.body
        and error.failure.kind != "credentials"
    ):
        return error.failure.body
    return orjson.dumps(shape(error))


def shape(error: RunestoneError) -> dict[str, dict[str, str | None]]:
    """OpenAI's error object."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def event(error: RunestoneError) -> bytes:
    """The same as an event inside a stream; no ``[DONE]`` follows it."""
    return b"data: " + orjson.dumps(shape(error)) + b"\n\n"


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
