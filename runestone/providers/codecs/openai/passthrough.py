"""OpenAI's routes for clients of the same wire: what can be left as it is, is left as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import orjson
from attrs import frozen

from runestone.domain.catalogue import Row
from runestone.domain.chat import ChatRequest
from runestone.domain.failure import Failure, UpstreamError
from runestone.domain.secret import Secret
from runestone.providers.codecs.answer import TOO_DEEP, Completion, StreamDecoder, Unsupported, UpstreamRequest
from runestone.providers.codecs.errors import failure_of_answer
from runestone.providers.codecs.headers import request_head
from runestone.providers.codecs.openai.dialect import spoken
from runestone.providers.codecs.openai.passthrough_stream import OpenAIStream
from runestone.providers.codecs.openai.usage import usage_of
from runestone.providers.codecs.translation import answer_object

_WHITESPACE: Final = b" \t\r\n"
_FORWARDED: Final = ("openai-organization", "openai-project", "openai-beta", "idempotency-key")


@frozen
class OpenAICodec:
    """OpenAI and everything compatible with it; ``row`` says how a provider differs."""

    row: Row
    path: ClassVar[str] = "/chat/completions"

    def credentials(self, api_key: Secret | None) -> dict[str, str]:
        """The headers that say who asks; none where no key is needed."""
        if api_key is None:
            return {}
        if self.row.auth == "bearer":
            return {"authorization": f"Bearer {api_key.reveal()}"}
        return {self.row.auth: api_key.reveal()}

    def request(
        self, chat: ChatRequest, *, model: str, api_key: Secret | None, extra_headers: Mapping[str, str]
    ) -> UpstreamRequest | Unsupported:
        """The client's own body, byte for byte unless the model has another name upstream, or a field has.

        A stream is asked to tell its tokens at the end, whether the client wants to know or not: somebody has to pay for them.
        """
        head = request_head(chat, self.credentials(api_key), extra_headers, _FORWARDED)
        asks = self._asks_for_usage(chat)
        if model == chat.model and not self.row.rules and (not asks or "stream_options" not in chat.body):
            return UpstreamRequest(path=self.path, headers=head, body=_asking(chat.raw) if asks else chat.raw)
        body, dropped = spoken(self.row, {**chat.body, "model": model})
        if asks:
            body["stream_options"] = {**(chat.body.get("stream_options") or {}), "include_usage": True}
        try:
            data = orjson.dumps(body)
        except orjson.JSONEncodeError:
            return TOO_DEEP
        return UpstreamRequest(path=self.path, headers=head, body=data, dropped=tuple(dropped))

    def completion(self, chat: ChatRequest, body: bytes, *, created: int) -> Completion:
        """The body passed on as it is, once it is known to be an answer."""
        del chat, created
        answer = answer_object(body)
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise UpstreamError(_invalid("the answer has no choices"))
        finish = choices[0].get("finish_reason")
        return Completion(
            body=body,
            usage=usage_of(answer, self.row),
            finish_reason=finish if isinstance(finish, str) else None,
        )

    def stream(self, chat: ChatRequest, *, created: int) -> StreamDecoder:
        """A decoder that passes events on."""
        del created
        choices = chat.body.get("n")
        count = max(choices, 1) if isinstance(choices, int) else 1
        return OpenAIStream(self.row, choices=count, keeps_usage=self._asks_for_usage(chat))

    def _asks_for_usage(self, chat: ChatRequest) -> bool:
        """Whether the gateway asks for the tokens of a stream in its own name."""
        options = chat.body.get("stream_options")
        return (
            chat.stream
            and not chat.include_usage
            and "stream_options" not in self.row.drops
            and (options is None or isinstance(options, dict))
        )

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, *, now_epoch: float) -> Failure:
        """The table of the wire."""
        return failure_of_answer(status, headers, body, now_epoch=now_epoch)


class CompletionsCodec(OpenAICodec):
    """The older completions, whose answers have the same frame."""

    path = "/completions"


class EmbeddingsCodec(OpenAICodec):
    """Embeddings: never a stream, and passed on in the encoding that the client asked for."""

    path = "/embeddings"

    def completion(self, chat: ChatRequest, body: bytes, *, created: int) -> Completion:
        """The body passed on as it is, once it is known to be an answer."""
        del chat, created
        answer = answer_object(body)
        if not isinstance(answer.get("data"), list):
            raise UpstreamError(_invalid("the answer has no data"))
        return Completion(body=body, usage=usage_of(answer, self.row))


def _asking(raw: bytes) -> bytes:
    """``raw``, an object with a member at least and without ``stream_options``, with them."""
    return raw.rstrip(_WHITESPACE)[:-1] + b',"stream_options":{"include_usage":true}}'


def _invalid(message: str) -> Failure:
    return Failure(kind="invalid_answer", message=message)
