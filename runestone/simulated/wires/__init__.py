"""The answers of the wires, written down from the providers' documentation and from nothing of the gateway's own codecs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from runestone.simulated.wires.anthropic import Anthropic, TokenCount
from runestone.simulated.wires.openai import Completions, Embeddings, OpenAI
from runestone.simulated.wires.responses import Responses
from runestone.simulated.wires.text import Text, Wire

__all__ = ["WIRES", "Text", "Wire"]

WIRES: Final[dict[str, Callable[[str], Wire]]] = {
    "/v1/chat/completions": OpenAI,
    "/v1/completions": Completions,
    "/v1/embeddings": Embeddings,
    "/v1/responses": Responses,
    "/v1/messages": Anthropic,
    "/v1/messages/count_tokens": TokenCount,
}
