"""The canonical answer: what a model said, whole or as it comes, in words that belong to no wire."""

from __future__ import annotations

from typing import Literal

from attrs import define, frozen

from runestone.domain.chat import Usage
from runestone.domain.conversation import RedactedThinking, Text, Thinking, ToolCall
from runestone.domain.failure import Failure

Finish = Literal["stop", "length", "tool_calls", "content_filter"]


@frozen(kw_only=True)
class Answer:
    """A whole answer. ``id`` and ``model`` as the provider gave them; ``refusal``: the words with which it refused."""

    id: str
    model: str
    blocks: tuple[Text | Thinking | RedactedThinking | ToolCall, ...]
    finish: Finish
    refusal: str | None = None
    usage: Usage | None = None


# The events of a stream. They are made by the thousand: slots, and no freezing.


@define
class Started:
    """The first event: who answers. ``id`` and ``model`` as the provider gave them."""

    id: str
    model: str


@define
class TextDelta:
    """More words of the answer."""

    text: str


@define
class RefusalDelta:
    """More words of a refusal."""

    text: str


@define
class ThinkingDelta:
    """More of what the model thinks."""

    text: str


@define
class ThinkingSigned:
    """A thought has ended: the whole of it, with its provider's signature."""

    thinking: Thinking


@define
class ThinkingRedacted:
    """A thought that only its provider can read."""

    thinking: RedactedThinking


@define
class ToolStarted:
    """A call of a tool begins: the ``tool``-th of this answer, from 0."""

    tool: int
    id: str
    name: str


@define
class ToolDelta:
    """More of the arguments, as JSON text, of the ``tool``-th call. Calls may be interleaved. Every call has some: ``{}`` at the least."""

    tool: int
    text: str


@define
class Finished:
    """The model has ended. Its usage may still come."""

    reason: Finish


@define
class Ended:
    """Nothing follows; the answer is whole."""

    usage: Usage | None


@define
class Failed:
    """Nothing follows; the answer is not whole."""

    failure: Failure


Content = TextDelta | RefusalDelta | ThinkingDelta | ThinkingRedacted | ToolStarted | ToolDelta
StreamEvent = Started | Content | ThinkingSigned | Finished | Ended | Failed
