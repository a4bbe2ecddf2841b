"""A chat from inside: the same way as a request on the public port, without HTTP. Its answer comes as events."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from runestone.domain.chat import ChatRequest
from runestone.domain.errors import RunestoneError
from runestone.domain.failure import UpstreamError
from runestone.failover.call import UpstreamCall
from runestone.gateway import Gateway
from runestone.operations.errors import OperationError
from runestone.providers import sse
from supervisors import ActorError

Event = dict[str, Any]
_NOBODY = frozenset({"no_provider_available", "rate_limit_exceeded"})


async def stream(gateway: Gateway, request: Mapping[str, Any], group: str | None = None) -> AsyncGenerator[Event, None]:
    """The events of one chat; ``request`` is a body of OpenAI's wire, ``group`` the failover group if it is not the model's.

    ``started`` (id, provider, model), then ``text``, ``thinking`` and ``tool_call`` as they come, then ``finished`` (reason, usage).
    Raises :class:`OperationError` before ``started`` and in the middle: nothing follows it, and no ``finished`` was faked.
    """
    chat = _parsed(request, group)
    deadline = asyncio.get_running_loop().time() + gateway.timeouts.request_deadline_seconds
    try:
        async with (
            gateway.phase.request(deadline),
            gateway.requests.adopt(),
            gateway.complete(chat, deadline) as attempts,
        ):
            call = await attempts.open()
            choice = call.lease.choice
            yield {"type": "started", "id": chat.request_id, "provider": choice.provider, "model": choice.model}
            async with aclosing(_events(call)) as events:
                async for event in events:
                    yield event
    except TimeoutError:
        raise _operation_error(gateway.phase.expired()) from None
    except RunestoneError as error:
        raise _operation_error(error) from None
    except UpstreamError as error:
        raise OperationError(error.failure.kind, error.failure.message) from None
    except ActorError as error:
        raise OperationError("restarting", f"a part of the gateway is being restarted: {error}") from None


async def _events(call: UpstreamCall) -> AsyncGenerator[Event, None]:
    parser, finish, usage = sse.Events(), None, None
    data = call.head
    while data:
        for event in parser.feed(data):
            if event.data == b"[DONE]":
                continue
            chunk = orjson.loads(event.data)
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices") or ():
                finish = choice.get("finish_reason") or finish
                for said in _said(choice.get("delta") or {}):
                    yield said
        data = await call.read()
    yield {"type": "finished", "reason": finish, "usage": usage}


def _said(delta: Mapping[str, Any]) -> list[Event]:
    events: list[Event] = []
    if text := delta.get("content"):
        events.append({"type": "text", "text": text})
    if text := delta.get("reasoning_content") or delta.get("reasoning"):
        events.append({"type": "thinking", "text": text})
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        events.append(
            {
                "type": "tool_call",
                "index": call.get("index", 0),
                "id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments") or "",
            }
        )
    return events


def _parsed(request: Mapping[str, Any], group: str | None) -> ChatRequest:
    body = {**request, "stream": True, "stream_options": {"include_usage": True}}
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model:
        raise OperationError("invalid_request", "the request names no model")
    if not isinstance(messages, list) or not messages:
        raise OperationError("invalid_request", "the request has no messages")
    try:
        raw = orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise OperationError("invalid_request", f"the request is no JSON: {error}") from None
    return ChatRequest(
        request_id=f"req_{uuid.uuid4().hex[:24]}",
        wire="openai",
        model=model,
        stream=True,
        body=body,
        raw=raw,
        group=group,
    )


def _operation_error(error: RunestoneError) -> OperationError:
    return OperationError("no_providers_available" if error.code in _NOBODY else error.code, error.message)
