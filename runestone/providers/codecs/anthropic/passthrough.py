"""Anthropic's messages for clients of the same wire: what can be left as it is, is left as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from attrs import evolve

from runestone.domain.chat import ChatRequest
from runestone.domain.failure import Failure, UpstreamError
from runestone.domain.secret import Secret
from runestone.providers.codecs.answer import TOO_DEEP, Completion, StreamDecoder, Unsupported, UpstreamRequest
from runestone.providers.codecs.anthropic.answer_reader import usage_of
from runestone.providers.codecs.anthropic.passthrough_stream import AnthropicStream
from runestone.providers.codecs.errors import failure_of_answer
from runestone.providers.codecs.headers import request_head
from runestone.providers.codecs.translation import answer_object

# The version that every model still takes with sampling parameters: for those who name none, and for clients of another wire.
_VERSION: Final = "2023-06-01"
_FORWARDED: Final = ("anthropic-version", "anthropic-beta", "idempotency-key")


class AnthropicCodec:
    """Anthropic's wire on both sides."""

    path: str = "/messages"

    def credentials(self, api_key: Secret | None) -> dict[str, str]:
        """The headers that say who asks, and in which version of the wire."""
        key = {} if api_key is None else {"x-api-key": api_key.reveal()}
        return {"anthropic-version": _VERSION, **key}

    def request(
        self, chat: ChatRequest, *, model: str, api_key: Secret | None, extra_headers: Mapping[str, str]
    ) -> UpstreamRequest | Unsupported:
        """The client's own body, byte for byte unless the model has another name upstream, in the version that the client speaks."""
        head = request_head(chat, self.credentials(api_key), extra_headers, _FORWARDED)
        try:
            body = chat.raw if model == chat.model else orjson.dumps({**chat.body, "model": model})
        except orjson.JSONEncodeError:
            return TOO_DEEP
        return UpstreamRequest(path=self.path, headers=head, body=body)

    def completion(self, chat: ChatRequest, body: bytes, *, created: int) -> Completion:
        """The body passed on as it is, once it is known to be an answer."""
        del chat, created
        answer = answer_object(body)
        if not isinstance(answer.get("content"), list):
            raise UpstreamError(Failure(kind="invalid_answer", message="the answer has no content"))
        stop = answer.get("stop_reason")
        return Completion(
            body=body,
            usage=usage_of(answer.get("usage")),
            finish_reason=stop if isinstance(stop, str) else None,
        )

    def stream(self, chat: ChatRequest, *, created: int) -> StreamDecoder:
        """A decoder that passes events on."""
        del chat, created
        return AnthropicStream()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, *, now_epoch: float) -> Failure:
        """The table of the wire, with OpenAI's codes where a client acts on them."""
        failure = failure_of_answer(status, headers, body, now_epoch=now_epoch)
        if failure.kind == "caller_error" and "prompt is too long" in failure.message.lower():
            return evolve(failure, code="context_length_exceeded")
        if failure.kind == "not_found":
            return evolve(failure, code="model_not_found")
        return failure


class TokenCountCodec(AnthropicCodec):
    """``count_tokens``: the same request, and a number for an answer."""

    path = "/messages/count_tokens"

    def completion(self, chat: ChatRequest, body: bytes, *, created: int) -> Completion:
        """The count passed on."""
        del chat, created
        if not isinstance(answer_object(body).get("input_tokens"), int):
            raise UpstreamError(Failure(kind="invalid_answer", message="the answer has no count"))
        return Completion(body=body)
