"""Anthropic's messages for clients of OpenAI's wire. What it cannot say is refused by name, what it need not say is named as dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from attrs import evolve

from runestone.domain.chat import ChatRequest
from runestone.domain.failure import Failure, UpstreamError
from runestone.domain.secret import Secret
from runestone.providers.codecs.answer import TOO_DEEP, Completion, StreamDecoder, Unsupported, UpstreamRequest
from runestone.providers.codecs.anthropic_answer import completion_of
from runestone.providers.codecs.anthropic_request import translate
from runestone.providers.codecs.anthropic_stream import AnthropicStream
from runestone.providers.codecs.errors import failure_of_answer, failure_of_event
from runestone.providers.codecs.refusal import Refused

# The version that still takes sampling parameters; the newer one refuses them for every model.
_VERSION: Final = "2023-06-01"


class AnthropicCodec:
    """Anthropic's wire, translated both ways."""

    def credentials(self, api_key: Secret) -> dict[str, str]:
        """The headers that say who asks, and in which version of the wire."""
        return {"anthropic-version": _VERSION, "x-api-key": api_key.reveal()}

    def request(
        self, chat: ChatRequest, *, model: str, api_key: Secret, extra_headers: Mapping[str, str]
    ) -> UpstreamRequest | Unsupported:
        """The same question in the other wire, or the field that has no equal there."""
        try:
            body, dropped = translate(chat.body, model=model)
        except Refused as refused:
            return Unsupported(field=refused.field, message=refused.message)
        try:
            data = orjson.dumps(body)
        except orjson.JSONEncodeError:
            return TOO_DEEP
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if chat.stream else "application/json",
            "accept-encoding": "identity",
            **self.credentials(api_key),
        }
        for name, value in extra_headers.items():
            headers[name.lower()] = value
        return UpstreamRequest(path="/messages", headers=tuple(headers.items()), body=data, dropped=tuple(dropped))

    def completion(self, chat: ChatRequest, body: bytes, *, created: int) -> Completion:
        """A message as a chat completion."""
        del chat
        try:
            answer: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise UpstreamError(_invalid("the answer is not JSON")) from None
        if not isinstance(answer, dict):
            raise UpstreamError(_invalid("the answer is not a JSON object"))
        if answer.get("error") is not None:
            raise UpstreamError(failure_of_event(answer["error"]))
        if not isinstance(answer.get("content"), list):
            raise UpstreamError(_invalid("the answer has no content"))
        try:
            return completion_of(answer, created=created)
        except orjson.JSONEncodeError:
            raise UpstreamError(_invalid("the answer is nested too deeply")) from None

    def stream(self, chat: ChatRequest, *, created: int) -> StreamDecoder:
        """A decoder that turns events into chunks."""
        return AnthropicStream(created=created, include_usage=chat.include_usage)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, *, now_epoch: float) -> Failure:
        """The table of the wire, with OpenAI's codes where a client acts on them."""
        failure = failure_of_answer(status, headers, body, now_epoch=now_epoch)
        if failure.kind == "caller_error" and "prompt is too long" in failure.message.lower():
            return evolve(failure, code="context_length_exceeded")
        if failure.kind == "not_found":
            return evolve(failure, code="model_not_found")
        return failure


def _invalid(message: str) -> Failure:
    return Failure(kind="invalid_answer", message=message)
