"""Reading a request's body within its limits, and refusing a request without leaving anything behind in the server."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from runestone.domain.errors import InvalidRequest, RunestoneError
from runestone.http import errors
from runestone.http.exchange import Exchange

_DRAIN_SECONDS = 5.0  # for a refused client to see its answer and close


class ClientGone(Exception):
    """The client has left; there is nobody to answer."""


async def read(exchange: Exchange, *, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        InvalidRequest: 413 over ``limit_bytes``, by the header before any of it is read.
        ClientGone: the client left while sending.
    """
    if int(exchange.headers.get(b"content-length", b"0")) > limit_bytes:
        raise _too_large(limit_bytes)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if part := message.get("body", b""):
            parts.append(part)
            size += len(part)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
        more = message.get("more_body", False)
    exchange.body_read = True
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def answer(error: RunestoneError, exchange: Exchange, extra: errors.Headers) -> None:
    """Answer ``error`` to a request whose body has been read; the connection lives on."""
    body = errors.body(error, exchange.dialect, exchange.request_id)
    await exchange.answer(exchange.status, [*errors.headers(error, len(body)), *extra], body)


async def refuse(error: RunestoneError, exchange: Exchange, extra: errors.Headers) -> None:
    """Answer ``error`` to a request whose body has not been read, and close the connection.

    hypercorn queues a few body messages for the application and then waits inside the application's own ``send`` for room, for ever:
    so what the client still sends is drained beside the answer. The answer's last message waits for that, or the close of a socket
    with unread bytes would reset the connection before the client has read why.
    """
    drain = asyncio.ensure_future(_drain(exchange.receive))
    try:
        body = errors.body(error, exchange.dialect, exchange.request_id)
        head = [*errors.headers(error, len(body)), *extra, (b"connection", b"close")]
        await exchange.send({"type": "http.response.start", "status": exchange.status, "headers": head})
        await exchange.send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.wait({drain}, timeout=_DRAIN_SECONDS)
        await exchange.send({"type": "http.response.body", "body": b""})
    finally:
        drain.cancel()


async def _drain(receive: Receive) -> None:
    while (message := await receive())["type"] != "http.disconnect" and message.get("more_body"):
        pass


def _too_large(limit_bytes: int) -> InvalidRequest:
    return InvalidRequest(
        f"The body is larger than the limit of {limit_bytes} bytes. Send less.", status=413, code="request_too_large"
    )
