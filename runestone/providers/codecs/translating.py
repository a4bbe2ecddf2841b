"""The codec of a provider whose wire is not the client's: the translation, behind the provider's own door."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from runestone.domain.chat import ChatRequest
from runestone.domain.failure import Failure
from runestone.domain.secret import Secret
from runestone.providers.codecs.answer import Codec, Completion, StreamDecoder, Unsupported, UpstreamRequest
from runestone.providers.codecs.headers import request_head
from runestone.providers.codecs.translation import Translation


@frozen
class TranslatingCodec:
    """``door`` is the codec of the provider's own wire: it knows how to come in, and what its errors stand for."""

    translation: Translation
    door: Codec

    def credentials(self, api_key: Secret | None) -> dict[str, str]:
        """Those of the provider."""
        return self.door.credentials(api_key)

    def request(
        self, chat: ChatRequest, *, model: str, api_key: Secret | None, extra_headers: Mapping[str, str]
    ) -> UpstreamRequest | Unsupported:
        """The same question in the provider's words, or the field that has none there."""
        written = self.translation.request(chat, model=model)
        if isinstance(written, Unsupported):
            return written
        body, dropped = written
        head = request_head(chat, self.credentials(api_key), extra_headers)
        return UpstreamRequest(path=self.translation.provider.path, headers=head, body=body, dropped=dropped)

    def completion(self, chat: ChatRequest, body: bytes, *, created: int) -> Completion:
        """The answer in the client's words."""
        return self.translation.completion(chat, body, created=created)

    def stream(self, chat: ChatRequest, *, created: int) -> StreamDecoder:
        """A decoder that writes each event in the client's words."""
        return self.translation.stream(chat, created=created)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, *, now_epoch: float) -> Failure:
        """What the provider's error stands for."""
        return self.door.failure(status, headers, body, now_epoch=now_epoch)
