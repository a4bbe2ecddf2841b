"""One real, tiny call to one provider, for an operator who wants to know whether it serves: on the way of every request, and booked as one.

Neither the question nor the answer is told to anybody but the two ends of the call.
"""

from __future__ import annotations

import asyncio
import uuid
from decimal import Decimal
from typing import Any, Final

import orjson

from runestone.costs.prices import cost
from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.errors import NoProviderAvailable, RunestoneError, UpstreamFailed
from runestone.domain.failure import UpstreamError
from runestone.failover.call import UpstreamCall
from runestone.failover.router import objection
from runestone.operations.errors import OperationError
from runestone.operations.node import Node
from runestone.providers.codecs.openai.models import reasons
from runestone.providers.memory import ProviderMemory
from runestone.telemetry.logs import masked
from supervisors import ActorError

PROMPT: Final = "Say ok."
_TOKENS: Final = 16  # of the answer
_SECONDS: Final = 45.0  # for all of it
_CHARACTERS: Final = 500  # of what a provider says


async def made(
    node: Node, memory: ProviderMemory, *, model: str | None, prompt: str | None, stream: bool
) -> dict[str, Any]:
    """How the call went: times in milliseconds, tokens, dollars; or where ``ok`` is false, the failure in the provider's words."""
    if (asked_for := model or memory.settings.default_model) is None:
        raise OperationError("refused", f"{memory.name} has no default model: say which one to ask for")
    chat = _asked(memory, asked_for, PROMPT if prompt is None else prompt, stream=stream)
    deadline = asyncio.get_running_loop().time() + _SECONDS
    told: dict[str, Any] = {"provider": memory.name, "model": asked_for, "stream": stream}
    gateway, call = node.gateway, None
    try:
        async with (
            gateway.phase.request(deadline),
            gateway.requests.adopt(),
            gateway.complete(chat, deadline, trial=True) as attempts,
        ):
            call = await attempts.open()
            while await call.read():
                pass
    except TimeoutError:
        return told | _failed("timeout", f"no whole answer within {_SECONDS:g} s")
    except UpstreamFailed as error:
        return told | _failed(error.failure.kind, error.failure.message, error.failure.status)
    except UpstreamError as error:
        return told | _failed(error.failure.kind, error.failure.message, error.failure.status)
    except NoProviderAvailable as error:
        why = objection(memory, asked_for, asyncio.get_running_loop().time(), trial=True)
        return told | _failed("not_asked", error.message if why is None else f"{memory.name} takes no call now: {why}")
    except RunestoneError as error:
        return told | _failed(error.code, error.message)
    except ActorError as error:
        raise OperationError("unavailable", f"a part of the gateway is being restarted: {error}") from None
    return told | await _served(node, memory, call)


def _asked(memory: ProviderMemory, model: str, prompt: str, *, stream: bool) -> ChatRequest:
    pinned, limit = f"{memory.name}/{model}", "max_completion_tokens" if reasons(model) else "max_tokens"
    body: dict[str, Any] = {"model": pinned, "messages": [{"role": "user", "content": prompt}], limit: _TOKENS}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return ChatRequest(
        request_id=f"req_{uuid.uuid4().hex[:24]}",
        wire="openai",
        model=pinned,
        stream=stream,
        body=body,
        raw=orjson.dumps(body),
    )


async def _served(node: Node, memory: ProviderMemory, call: UpstreamCall) -> dict[str, Any]:
    usage, model = call.usage, call.lease.choice.model
    dollars = await asyncio.to_thread(_dollars, usage, memory.settings.kind, model, node) if usage is not None else None
    return {
        "ok": True,
        "outcome": "ok",
        "status": 200,
        "message": None,
        "first_content_ms": _milliseconds(call.first_content_seconds),
        "total_ms": _milliseconds(call.seconds),
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cost_usd": None if dollars is None else format(dollars.normalize(), "f"),
    }


def _dollars(usage: Usage, kind: str, model: str, node: Node) -> Decimal | None:
    return cost(usage, kind, model, node.settings.prices)


def _failed(outcome: str, message: str, status: int | None = None) -> dict[str, Any]:
    return {"ok": False, "outcome": outcome, "status": status, "message": masked(message[:_CHARACTERS])}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
