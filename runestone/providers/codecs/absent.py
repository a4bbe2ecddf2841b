"""The codec of a provider that has nothing like what is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from runestone.domain.chat import ChatRequest
from runestone.domain.failure import Failure
from runestone.domain.secret import Secret
from runestone.providers.codecs.answer import Codec, Completion, StreamDecoder, Unsupported, UpstreamRequest


@frozen
class AbsentCodec:
    """Every request is refused by name, and nothing is sent. ``door`` is the codec of the provider's own wire."""

    what: str
    door: Codec

    def credentials(self, api_key: Secret | None) -> dict[str, str]:
        """Those of the provider."""
        return self.door.credentials(api_key)

    def request(
        self, chat: ChatRequest, *, model: str, api_key: Secret | None, extra_headers: Mapping[str, str]
    ) -> UpstreamRequest | Unsupported:
        """The refusal."""
        del api_key, extra_headers
        return Unsupported(
            field="model", message=f"The provider of {model[:100]!r} has no {self.what}: ask for another model."
        )

    def completion(self, chat: ChatRequest, body: bytes, *, created: int) -> Completion:
        """Never asked for."""
        raise AssertionError

    def stream(self, chat: ChatRequest, *, created: int) -> StreamDecoder:
        """Never asked for."""
        raise AssertionError

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, *, now_epoch: float) -> Failure:
        """What the provider's error stands for."""
        return self.door.failure(status, headers, body, now_epoch=now_epoch)
