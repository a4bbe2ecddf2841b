"""The canonical chat: what a client asks, in words that belong to no wire.

A codec of a client's wire reads a body into a :class:`Chat`, a codec of a provider's wire writes one as its own body. Where both speak the
same wire there is no :class:`Chat`: the body passes as it is.

``where`` is the place of a value in the client's own body (``messages[2].content[0]``), for the words of a refusal; two values that
differ in nothing else are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

Role = Literal["system", "user", "assistant"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Refused(Exception):
    """A field of a request that another wire cannot express, or that makes no sense in its own; a codec turns it into a 400."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@frozen(kw_only=True)
class Cache:
    """The mark behind which a provider may cache a prompt. ``ttl`` as Anthropic writes it (``5m``, ``1h``); ``None``: its default."""

    ttl: str | None = None


@frozen
class Text:
    """Words."""

    text: str
    cache: Cache | None = field(default=None, kw_only=True)
    where: str = field(default="", eq=False, kw_only=True)


@frozen(kw_only=True)
class Image:
    """A picture: ``data`` in base64 with its ``media_type``, or a ``url`` that the provider fetches."""

    media_type: str | None = None
    data: str | None = field(default=None, repr=False)
    url: str | None = None
    cache: Cache | None = None
    where: str = field(default="", eq=False)


@frozen(kw_only=True)
class Document:
    """A file: ``data`` in base64 (of ``text/plain``: the text itself), or a ``url`` that the provider fetches."""

    media_type: str
    data: str | None = field(default=None, repr=False)
    url: str | None = None
    title: str | None = None
    cache: Cache | None = None
    where: str = field(default="", eq=False)


@frozen(kw_only=True)
class Audio:
    """Sound in base64; ``format`` is ``wav`` or ``mp3``."""

    data: str = field(repr=False)
    format: str
    where: str = field(default="", eq=False)


@frozen(kw_only=True)
class Thinking:
    """What a model thought. Only the provider that signed it takes it back."""

    text: str
    signature: str | None = None
    where: str = field(default="", eq=False)


@frozen(kw_only=True)
class RedactedThinking:
    """The same, encrypted."""

    data: str
    where: str = field(default="", eq=False)


@frozen(kw_only=True)
class ToolCall:
    """A model's call of a tool of the client."""

    id: str
    name: str
    input: Mapping[str, Any]
    cache: Cache | None = None
    where: str = field(default="", eq=False)


@frozen(kw_only=True)
class ToolResult:
    """What a tool gave back to the call ``id``."""

    id: str
    content: tuple[Text | Image | Document, ...] = ()
    is_error: bool = False
    cache: Cache | None = None
    where: str = field(default="", eq=False)


Block = Text | Image | Document | Audio | Thinking | RedactedThinking | ToolCall | ToolResult


@frozen
class Turn:
    """Consecutive blocks of one speaker. Results of tools are the user's."""

    role: Role
    blocks: tuple[Block, ...]
    where: str = field(default="", eq=False, kw_only=True)


@frozen(kw_only=True)
class Tool:
    """A function of the client's. ``schema`` is JSON Schema, whole; ``None``: it takes nothing."""

    name: str
    description: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    cache: Cache | None = None
    where: str = field(default="", eq=False)


@frozen(kw_only=True)
class ToolChoice:
    """Whether a tool must be called. ``named`` carries the ``name``; ``allowed`` narrows the tools for this turn."""

    mode: Literal["auto", "required", "none", "named"]
    name: str | None = None
    allowed: tuple[str, ...] | None = None
    where: str = field(default="tool_choice", eq=False)


@frozen(kw_only=True)
class Reasoning:
    """How much to think: an ``effort``, or a ``budget`` in tokens as older Claude models take it."""

    effort: Effort | None = None
    budget: int | None = None
    where: str = field(default="reasoning_effort", eq=False)


@frozen(kw_only=True)
class Format:
    """The form of the answer: any JSON object, or JSON by a ``schema``. Plain text is the absence of a format."""

    kind: Literal["json", "schema"]
    schema: Mapping[str, Any] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    where: str = field(default="response_format", eq=False)


@frozen(kw_only=True)
class Chat:
    """One question to a model. Instructions are turns of the role ``system``, where the client put them.

    ``tier`` is in OpenAI's words. ``dropped`` names the fields of the client's body that no other wire has a word for.
    """

    turns: tuple[Turn, ...]
    stream: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool = True
    reasoning: Reasoning | None = None
    format: Format | None = None
    user: str | None = None
    tier: str | None = None
    dropped: tuple[str, ...] = ()
