"""A chat from inside: the same way as a request on the public port, without HTTP. Its answer comes as events."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from runestone.domain.chat import ChatRequest
from runestone.domain.errors import RunestoneError, UpstreamFailed
from runestone.domain.failure import UpstreamError
from runestone.domain.routing import is_throw_away
from runestone.failover.attempts import Attempts
from runestone.failover.call import UpstreamCall
from runestone.gateway import Gateway
from runestone.operations.errors import OperationError
from runestone.providers import sse
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import INSIDE, RequestFinished, RequestStarted
from supervisors import ActorError

Event = dict[str, Any]  # of the answer
_NOBODY = frozenset({"no_provider_available", "rate_limit_exceeded"})


async def stream(gateway: Gateway, request: Mapping[str, Any], group: str | None = None) -> AsyncGenerator[Event, None]:
    """The events of one chat; ``request`` is a body of OpenAI's wire, ``group`` the failover group if it is not the model's.

    ``started`` (id, provider, model), then ``text``, ``thinking`` and ``tool_call`` as they come, then ``finished`` (reason, usage).
    Raises :class:`OperationError` before ``started`` and in the middle: nothing follows it, and no ``finished`` was faked.
    """
    chat = _parsed(request, group)
    telling = _Telling(gateway.bus, chat)
    deadline = asyncio.get_running_loop().time() + gateway.timeouts.request_deadline_seconds
    try:
        async with (
            gateway.phase.request(deadline, INSIDE),
            gateway.requests.adopt(),
            gateway.complete(chat, deadline) as attempts,
        ):
            telling.attempts = attempts
            call = telling.call = await attempts.open()
            choice = call.lease.choice
            yield {"type": "started", "id": chat.request_id, "provider": choice.provider, "model": choice.model}
            async with aclosing(_events(call)) as events:
                async for event in events:
                    telling.comes(event)
                    yield event
    except TimeoutError:
        raise _operation_error(telling.failed(gateway.phase.expired())) from None
    except RunestoneError as error:
        raise _operation_error(telling.failed(error)) from None
    except UpstreamError as error:
        telling.outcome = error.failure.kind
        raise OperationError(error.failure.kind, error.failure.message) from None
    except ActorError as error:
        telling.outcome = "restarting"
        raise OperationError("restarting", f"a part of the gateway is being restarted: {error}") from None
    finally:
        telling.finished()


class _Telling:
    """Tells the bus of one chat, as of a request on the public port; not of those of a check, which fail on purpose."""

    def __init__(self, bus: Bus, chat: ChatRequest) -> None:
        self.attempts: Attempts | None = None
        self.call: UpstreamCall | None = None
        self.outcome = "client_gone"
        self._bus = bus
        self._chat = chat
        self._began = time.perf_counter()
        self._first_content_seconds: float | None = None
        self._status = 0
        self._told = chat.group is not None and is_throw_away(chat.group)
        if not self._told:
            bus.emit(RequestStarted(request_id=chat.request_id, route=INSIDE, model=chat.model, stream=True, key=""))

    def comes(self, event: Event) -> None:
        """``event`` is about to be given away."""
        if event["type"] == "finished":
            self.outcome = "ok"
            self.finished()
        elif self._first_content_seconds is None:
            self._first_content_seconds = time.perf_counter() - self._began

    def failed(self, error: RunestoneError) -> RunestoneError:
        """It ends with ``error``."""
        self.outcome = error.failure.kind if isinstance(error, UpstreamFailed) else error.code
        self._status = error.status
        return error

    def finished(self) -> None:
        """It is over. The first call counts."""
        if self._told:
            return
        self._told = True
        attempts, call = self.attempts, self.call
        self._bus.emit(
            RequestFinished(
                request_id=self._chat.request_id,
                route=INSIDE,
                stream=True,
                status=200 if call else self._status,
                outcome=self.outcome,
                duration_seconds=time.perf_counter() - self._began,
                provider=call.lease.choice.provider if call else None,
                model=call.lease.choice.model if call else None,
                attempts=attempts.calls if attempts else 0,
                asked=self._chat.model,
                group=attempts.group if attempts else None,
                first_content_seconds=self._first_content_seconds,
                upstream_seconds=attempts.upstream_seconds if attempts else 0.0,
                usage=call.usage if call else None,
                kind=call.lease.settings.kind if call else None,
            )
        )


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
