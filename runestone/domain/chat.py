"""A chat request as the front end hands it to the gateway, and what a model answered in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from attrs import field, frozen
from msgspec import Struct

Wire = Literal["openai", "anthropic"]
Api = Literal["chat", "messages", "responses", "completions", "embeddings", "count_tokens"]
#: How a call was served, as far as it decides on its price. ``other``: in a way that nothing is known of.
Tier = Literal["standard", "priority", "fast", "flex", "scale", "batch", "other"]
#: Where a model ran, as far as it decides on its price. ``other``: at a place that nothing is known of.
Region = Literal["any", "us", "other"]


@frozen(kw_only=True)
class ChatRequest:
    """One client request. ``raw`` is the body as it came; ``body`` the same, parsed. Neither is ever logged.

    ``api`` is what was asked for, ``wire`` the vendor's whose it is: errors of a provider of the same one reach the client as they are.
    """

    request_id: str
    wire: Wire
    api: Api = "chat"
    model: str
    stream: bool
    body: Mapping[str, Any] = field(repr=False)
    raw: bytes = field(repr=False)
    headers: Mapping[str, str] = field(factory=dict, repr=False)  # lower-case, only those that may be forwarded
    group: str | None = None  # the ``x-runestone-group`` header
    key: str = ""  # the name of the client's key
    key_groups: tuple[str, ...] = ()  # those that the key may use, its own first; none: all

    @property
    def include_usage(self) -> bool:
        """Whether a streaming OpenAI client asked for the usage chunk."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True


_CONVERSATIONS: Final[frozenset[Api]] = frozenset({"chat", "messages", "responses"})
_NATIVE: Final[frozenset[Api]] = frozenset({"chat", "messages"})


def stands_in(api: Api) -> bool:
    """Whether another model may answer: a conversation it can carry on, an embedding or a count of tokens would be another thing."""
    return api in _CONVERSATIONS


def tells_of_models(api: Api) -> bool:
    """Whether a 404 there is about the model: every provider has one of these, and may lack the others."""
    return api in _NATIVE


class Usage(Struct, frozen=True, kw_only=True, gc=False):
    """Tokens as OpenAI counts them: ``input_tokens`` includes cached reads and writes, ``output_tokens`` includes reasoning.

    Audio is part of both. What else an invoice depends on stands here as the answer tells it: the tier, the region, searches of the web,
    and what the provider says that it charges for all of it (whole picodollars; ``None``: it does not say).
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0  # those of ``cache_write_tokens`` that are kept for an hour
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    web_searches: int = 0
    service_tier: Tier = "standard"
    region: Region = "any"
    charged_picodollars: int | None = None
