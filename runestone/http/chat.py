"""``POST /v1/chat/completions``: OpenAI's wire, streamed and not."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from attrs import frozen
from starlette.types import Receive, Scope, Send

from runestone.config.settings import ServerSettings
from runestone.domain.chat import ChatRequest
from runestone.domain.errors import InvalidRequest, RunestoneError, UpstreamFailed
from runestone.domain.failure import UpstreamError
from runestone.failover.call import UpstreamCall
from runestone.gateway import Gateway
from runestone.http import body, errors, event_stream
from runestone.http.disconnect import UntilDisconnect
from runestone.http.exchange import Exchange

_FORWARDED: Final = frozenset({b"openai-organization", b"openai-project", b"openai-beta", b"idempotency-key"})


@frozen
class ChatCompletions:
    """The route as an ASGI app."""

    gateway: Gateway
    server: ServerSettings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors before the first byte are the front's to answer."""
        exchange: Exchange = scope["runestone.exchange"]
        exchange.route = "/v1/chat/completions"
        if scope["method"] != "POST":
            raise InvalidRequest("This route takes POST only.", status=405, code="method_not_allowed")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.gateway.timeouts.request_deadline_seconds
        phase = self.gateway.phase
        try:
            async with asyncio.timeout_at(deadline) as timeout:
                phase.deadlines.add(timeout)
                try:
                    await self._serve(exchange, deadline)
                finally:
                    phase.deadlines.discard(timeout)
        except TimeoutError:
            exchange.outcome = "timeout"
            await self._tell(exchange, phase.expired())

    async def _serve(self, exchange: Exchange, deadline: float) -> None:
        raw = await body.read(
            exchange.scope,
            exchange.receive,
            limit_bytes=self.server.body_limit_bytes,
            timeout_seconds=self.server.body_timeout_seconds,
        )
        exchange.body_read = True
        chat = parse(raw, exchange)
        exchange.stream = chat.stream
        async with self.gateway.requests.adopt(), UntilDisconnect(exchange):
            async with self.gateway.complete(chat, deadline) as attempts:
                try:
                    exchange.call = call = await attempts.open()
                finally:
                    exchange.attempts = attempts.calls
                try:
                    await self._answer(exchange, call)
                except UpstreamError as error:
                    exchange.outcome = error.failure.kind
                    await self._tell(exchange, UpstreamFailed(error.failure, same_wire=call.same_wire))

    async def _answer(self, exchange: Exchange, call: UpstreamCall) -> None:
        head = told(exchange, call)
        if exchange.stream:
            await event_stream.write(call, exchange.send, head)
            return
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(call.head)).encode()), *head]
        await exchange.send({"type": "http.response.start", "status": 200, "headers": head})
        await exchange.send({"type": "http.response.body", "body": call.head})

    async def _tell(self, exchange: Exchange, error: RunestoneError) -> None:
        """An error after the head has gone is told in-band; before it, the front answers it."""
        if not exchange.started:
            raise error
        data = errors.event(error) if exchange.stream else b""
        await exchange.send({"type": "http.response.body", "body": data})


def told(exchange: Exchange, call: UpstreamCall) -> errors.Headers:
    """Who answered, with which model, after how many calls."""
    choice = call.lease.choice
    return [
        (b"x-runestone-provider", choice.provider.encode()),
        (b"x-runestone-model", choice.model.encode("latin-1", "replace")),
        (b"x-runestone-attempts", str(exchange.attempts).encode()),
    ]


def parse(raw: bytes, exchange: Exchange) -> ChatRequest:
    """The request in ``raw``.

    Raises:
        InvalidRequest: it is not JSON, or lacks what routing needs; the provider judges the rest.
    """
    try:
        data: Any = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    model, stream = data.get("model"), data.get("stream")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("The request names no model. Set model to a string.", code="missing_model", param="model")
    if not isinstance(data.get("messages"), list) or not data["messages"]:
        raise InvalidRequest(
            "The request has no messages. Set messages to a list.", code="missing_messages", param="messages"
        )
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false.", param="stream")
    headers = exchange.scope["headers"]
    return ChatRequest(
        request_id=exchange.request_id,
        wire="openai",
        model=model,
        stream=bool(stream),
        body=data,
        raw=raw,
        headers={k.decode(): v.decode("latin-1") for k, v in headers if k in _FORWARDED},
        group=body.header(exchange.scope, b"x-runestone-group"),
    )
