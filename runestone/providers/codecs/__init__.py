"""The wires of the providers and of the clients, as pure functions: bytes in, bytes out."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from runestone.domain.catalogue import CATALOGUE
from runestone.domain.chat import Api
from runestone.providers.codecs import anthropic, completions, openai, responses
from runestone.providers.codecs.absent import AbsentCodec
from runestone.providers.codecs.answer import Codec, Completion, Piece, StreamDecoder, Unsupported, UpstreamRequest
from runestone.providers.codecs.anthropic.passthrough import AnthropicCodec, TokenCountCodec
from runestone.providers.codecs.openai.passthrough import CompletionsCodec, EmbeddingsCodec, OpenAICodec
from runestone.providers.codecs.responses.passthrough import ResponsesCodec
from runestone.providers.codecs.translating import TranslatingCodec
from runestone.providers.codecs.translation import Translation
from runestone.providers.codecs.wire import ClientWire

__all__ = ["Codec", "Completion", "Piece", "StreamDecoder", "Unsupported", "UpstreamRequest", "codec_for"]

_CLIENTS: Final[dict[Api, ClientWire]] = {
    "chat": openai.CLIENT,
    "messages": anthropic.CLIENT,
    "responses": responses.CLIENT,
    "completions": completions.CLIENT,
}
_OPENAI: Final[dict[Api, type[OpenAICodec]]] = {
    "chat": OpenAICodec,
    "responses": ResponsesCodec,
    "completions": CompletionsCodec,
    "embeddings": EmbeddingsCodec,
}
_ANTHROPIC: Final[dict[Api, type[AnthropicCodec]]] = {"messages": AnthropicCodec, "count_tokens": TokenCountCodec}
_WORDS: Final[dict[Api, str]] = {"embeddings": "embeddings", "count_tokens": "count of tokens"}


@lru_cache(maxsize=256)
def codec_for(kind: str, api: Api = "chat") -> Codec:
    """The codec of the provider kind ``kind`` for what clients ask by ``api``. Raises :class:`LookupError` for an unknown kind."""
    row = CATALOGUE[kind]
    if row.wire == "openai":
        if api in row.passes:
            return _OPENAI[api](row)
        door, provider = OpenAICodec(row), openai.provider(row)
        return _translating(api, door, Translation(_CLIENTS[api], provider) if api not in row.lacks else None)
    if api in row.passes:
        return _ANTHROPIC[api]()
    return _translating(
        api, AnthropicCodec(), Translation(_CLIENTS[api], anthropic.PROVIDER) if api not in row.lacks else None
    )


def _translating(api: Api, door: Codec, translation: Translation | None) -> Codec:
    return AbsentCodec(_WORDS[api], door) if translation is None else TranslatingCodec(translation, door)
