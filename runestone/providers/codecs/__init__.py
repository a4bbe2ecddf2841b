"""The wires of the providers, as pure functions: bytes in, bytes out."""

from __future__ import annotations

from typing import Final

from runestone.providers.codecs.answer import Codec, Completion, Piece, StreamDecoder, Unsupported, UpstreamRequest
from runestone.providers.codecs.anthropic import AnthropicCodec
from runestone.providers.codecs.openai import OpenAICodec

__all__ = ["Codec", "Completion", "Piece", "StreamDecoder", "Unsupported", "UpstreamRequest", "codec_for"]

_CODECS: Final[dict[str, Codec]] = {"openai": OpenAICodec(), "anthropic": AnthropicCodec()}


def codec_for(kind: str) -> Codec:
    """The codec of the provider kind ``kind``, for clients of OpenAI's wire. Raises :class:`LookupError` for an unknown one."""
    return _CODECS[kind]
