"""OpenAI's responses for clients of the same wire: what can be left as it is, is left as it is."""

from __future__ import annotations

from runestone.domain.chat import ChatRequest
from runestone.domain.failure import Failure, UpstreamError
from runestone.providers.codecs.answer import Completion, StreamDecoder
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.codecs.openai.passthrough import OpenAICodec
from runestone.providers.codecs.responses.passthrough_stream import ResponsesStream
from runestone.providers.codecs.responses.usage import usage_of
from runestone.providers.codecs.translation import answer_object


class ResponsesCodec(OpenAICodec):
    """The same wire on both sides."""

    path = "/responses"

    def completion(self, chat: ChatRequest, body: bytes, *, created: int) -> Completion:
        """The body passed on as it is, once it is known to be an answer."""
        del chat, created
        answer = answer_object(body)
        if answer.get("status") == "failed":
            raise UpstreamError(failure_of_event(answer.get("error")))
        if not isinstance(answer.get("output"), list):
            raise UpstreamError(Failure(kind="invalid_answer", message="the answer has no output"))
        return Completion(body=body, usage=usage_of(answer))

    def stream(self, chat: ChatRequest, *, created: int) -> StreamDecoder:
        """A decoder that passes events on."""
        del chat, created
        return ResponsesStream()
