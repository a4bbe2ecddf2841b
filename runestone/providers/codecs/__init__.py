"""The wires of the providers and of the clients, as pure functions: bytes in, bytes out."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from runestone.domain.chat import Api, Wire
from runestone.providers.codecs import anthropic, completions, openai, responses
from runestone.providers.codecs.absent import AbsentCodec
from runestone.providers.codecs.answer import Codec, Completion, Piece, StreamDecoder, Unsupported, UpstreamRequest
from runestone.providers.codecs.anthropic.passthrough import AnthropicCodec, TokenCountCodec
from runestone.providers.codecs.openai.passthrough import CompletionsCodec, EmbeddingsCodec, OpenAICodec
from runestone.providers.codecs.responses.passthrough import ResponsesCodec
from runestone.providers.codecs.translating import TranslatingCodec
from runestone.providers.codecs.translation import Translation
from runestone.providers.codecs.wire import ClientWire, ProviderWire

__all__ = ["Codec", "Completion", "Piece", "StreamDecoder", "Unsupported", "UpstreamRequest", "codec_for"]

_CLIENTS: Final[dict[Api, ClientWire]] = {
    "chat": openai.CLIENT,
    "messages": anthropic.CLIENT,
    "responses": responses.CLIENT,
    "completions": completions.CLIENT,
}
_WORDS: Final[dict[Api, str]] = {"embeddings": "embeddings", "count_tokens": "count of tokens"}


@lru_cache(maxsize=256)
def codec_for(kind: Wire, api: Api = "chat") -> Codec:
    """The codec of the provider kind ``kind`` for what clients ask by ``api``. Raises :class:`LookupError` for an unknown kind."""
    own, provider = _PROVIDERS[kind]
    if (same := own.get(api)) is not None:
        return same
    door = own[_NATIVE[kind]]
    if (client := _CLIENTS.get(api)) is None:
        return AbsentCodec(_WORDS.get(api, api), door)
    return TranslatingCodec(Translation(client, provider), door)


_NATIVE: Final[dict[str, Api]] = {"openai": "chat", "anthropic": "messages"}
_PROVIDERS: Final[dict[Wire, tuple[dict[Api, Codec], ProviderWire]]] = {
    "openai": (
        {
            "chat": OpenAICodec(),
            "responses": ResponsesCodec(),
            "completions": CompletionsCodec(),
            "embeddings": EmbeddingsCodec(),
        },
        openai.PROVIDER,
    ),
    "anthropic": ({"messages": AnthropicCodec(), "count_tokens": TokenCountCodec()}, anthropic.PROVIDER),
}
