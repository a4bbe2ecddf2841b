"""``POST /v1/chat/completions``: OpenAI's wire, streamed and not."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from attrs import frozen
from starlette.types import Receive, Scope, Send

from runestone.config.settings import ServerSettings
from runestone.domain.chat import ChatRequest
from runestone.domain.errors import InvalidRequest, UpstreamFailed
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors before the first byte are the front's to answer."""
        exchange: Exchange = scope["runestone.exchange"]
        exchange.route = "/v1/chat/completions"
        if scope["method"] != "POST":
            raise InvalidRequest("This route takes POST only.", status=405, code="method_not_allowed")
        now = asyncio.get_running_loop().time()
        phase, server = self.gateway.phase, self.gateway.live.settings.server
        try:
            async with phase.request(now + server.body_timeout_seconds) as timeout:
                chat = parse(await body.read(exchange, limit_bytes=server.body_limit_bytes), exchange)
                deadline = now + self.gateway.timeouts.request_deadline_seconds
                if not phase.cut:
                    timeout.reschedule(deadline)
                await self._serve(chat, exchange, deadline)
        except TimeoutError:
            exchange.outcome = "timeout"
            await exchange.tell(phase.expired() if exchange.body_read or phase.cut else _late_body(server))

    async def _serve(self, chat: ChatRequest, exchange: Exchange, deadline: float) -> None:
        exchange.stream = chat.stream
        async with self.gateway.requests.adopt():
            with UntilDisconnect(exchange):
                async with self.gateway.complete(chat, deadline) as attempts:
                    try:
                        exchange.call = call = await attempts.open()
                    finally:
                        exchange.attempts = attempts.calls
                    try:
                        await self._answer(exchange, call)
                    except UpstreamError as error:
                        exchange.outcome = error.failure.kind
                        await exchange.tell(UpstreamFailed(error.failure, same_wire=call.same_wire))

    async def _answer(self, exchange: Exchange, call: UpstreamCall) -> None:
        head = told(exchange, call)
        if exchange.stream:
            await event_stream.write(call, exchange.send, head)
            return
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(call.head)).encode()), *head]
        await exchange.send({"type": "http.response.start", "status": 200, "headers": head})
        await exchange.send({"type": "http.response.body", "body": call.head})


def _late_body(server: ServerSettings) -> InvalidRequest:
    return InvalidRequest(
        f"The body did not come within {server.body_timeout_seconds:g} s. Send it faster, or less of it.",
        status=408,
        code="request_timeout",
    )


def told(exchange: Exchange, call: UpstreamCall) -> errors.Headers:
    """Who answered, with which model, after how many calls, and without which fields of the request."""
    choice = call.lease.choice
    head = [
        (b"x-runestone-provider", choice.provider.encode()),
        (b"x-runestone-model", _visible(choice.model)),
        (b"x-runestone-attempts", str(exchange.attempts).encode()),
    ]
    if call.dropped:
        head.append((b"x-runestone-dropped", _visible(",".join(call.dropped))))
    return head


def _visible(text: str) -> bytes:
    """``text`` as a header's value: a model's name is the client's word and may hold anything."""
    if text.isascii() and text.isprintable() and text == text.strip():
        return text.encode()
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text).strip().encode()


def _group(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


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
    return ChatRequest(
        request_id=exchange.request_id,
        wire="openai",
        model=model,
        stream=bool(stream),
        body=data,
        raw=raw,
        headers={k.decode(): exchange.headers[k].decode("latin-1") for k in _FORWARDED & exchange.headers.keys()},
        group=_group(exchange.headers.get(b"x-runestone-group")),
        key_groups=() if exchange.key is None else exchange.key.groups,
    )
