"""The routes on which models are asked, streamed and not: one way for all of them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from attrs import frozen
from starlette.types import Receive, Scope, Send

from runestone.config.settings import ServerSettings
from runestone.costs.estimate import estimated
from runestone.costs.estimates import Estimates
from runestone.domain.chat import ChatRequest
from runestone.domain.errors import InvalidRequest, UpstreamFailed
from runestone.domain.failure import UpstreamError
from runestone.failover.call import UpstreamCall
from runestone.gateway import Gateway
from runestone.http import body, errors, event_stream
from runestone.http.apis import Route
from runestone.http.disconnect import UntilDisconnect
from runestone.http.exchange import Exchange
from runestone.http.parsing import parsed

_LONGEST_MODEL: Final = 512  # its name goes into events, which are kept


@frozen
class Inference:
    """One of the routes as an ASGI app."""

    gateway: Gateway
    route: Route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors before the first byte are the front's to answer."""
        exchange: Exchange = scope["runestone.exchange"]
        exchange.route = self.route.path
        if scope["method"] != "POST":
            raise InvalidRequest("This route takes POST only.", status=405, code="method_not_allowed")
        settings, key = self.gateway.live.settings, "" if exchange.key is None else exchange.key.name
        with self.gateway.load.place(key, settings):
            await self._read_and_serve(exchange, settings.server)

    async def _read_and_serve(self, exchange: Exchange, server: ServerSettings) -> None:
        now, phase = asyncio.get_running_loop().time(), self.gateway.phase
        try:
            async with phase.request(now + server.body_timeout_seconds, self.route.path) as timeout:
                raw = await body.read(exchange, limit_bytes=server.body_limit_bytes)
                chat = _question(parsed(raw), raw, self.route, exchange)
                deadline = now + self.gateway.timeouts.request_deadline_seconds
                if not phase.cut:
                    timeout.reschedule(deadline)
                await self._serve(chat, exchange, deadline)
        except TimeoutError:
            exchange.outcome = "timeout"
            await exchange.tell(phase.expired() if exchange.body_read or phase.cut else _late_body(server))

    async def _serve(self, chat: ChatRequest, exchange: Exchange, deadline: float) -> None:
        exchange.understood(chat.model, stream=chat.stream)
        async with self.gateway.requests.adopt():
            with UntilDisconnect(exchange):
                async with self.gateway.complete(chat, deadline) as attempts:
                    exchange.tried = attempts
                    try:
                        exchange.call = call = await attempts.open()
                    except UpstreamFailed as error:
                        if self.route.api != "count_tokens" or error.failure.kind != "unsupported":
                            raise
                        await _estimate(exchange, chat, self.gateway.estimates)
                        return
                    exchange.first_content_seconds = exchange.seconds
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
        await _whole(exchange, call.head, head)


async def _whole(exchange: Exchange, answer: bytes, more: errors.Headers) -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer)), *more]
    await exchange.answer(200, head, answer)


async def _estimate(exchange: Exchange, chat: ChatRequest, estimates: Estimates) -> None:
    """No provider of this model counts for others: an estimate, marked as one."""
    tokens = estimates.correction.corrected(estimated(chat.body), chat.model).input_tokens
    await _whole(exchange, orjson.dumps({"input_tokens": tokens}), [(b"x-runestone-estimated", b"true")])


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
    head += call.headers
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


def _question(data: dict[str, Any], raw: bytes, route: Route, exchange: Exchange) -> ChatRequest:
    """The request in ``data``.

    Raises:
        InvalidRequest: it lacks what routing needs; the provider judges the rest.
    """
    model, stream, asked = data.get("model"), data.get("stream"), data.get(route.needs)
    if not isinstance(model, str) or not model:
        raise InvalidRequest("The request names no model. Set model to a string.", code="missing_model", param="model")
    if len(model) > _LONGEST_MODEL:
        raise InvalidRequest(
            f"No model has a name of {len(model)} characters; {_LONGEST_MODEL} are the most.",
            status=404,
            code="model_not_found",
            param="model",
        )
    if asked is None or (route.needs == "messages" and not (isinstance(asked, list) and asked)):
        kind = "a list with at least one message" if route.needs == "messages" else "what the model is asked"
        raise InvalidRequest(
            f"The request has no {route.needs}. Set {route.needs} to {kind}.",
            code=f"missing_{route.needs}",
            param=route.needs,
        )
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false.", param="stream")
    headers = exchange.headers
    return ChatRequest(
        request_id=exchange.request_id,
        wire=route.wire,
        api=route.api,
        model=model,
        stream=bool(stream) and route.streams,
        body=data,
        raw=raw,
        headers={k.decode(): headers[k].decode("latin-1") for k in route.forwarded & headers.keys()},
        group=_group(headers.get(b"x-runestone-group")),
        key=exchange.key.name if exchange.key else "",
        key_groups=exchange.key.groups if exchange.key else (),
    )
