"""What a simulated model says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from attrs import frozen

Body = Mapping[str, Any]
_WORDS = [
    "this",
    "is",
    "a",
    "simulated",
    "answer",
    "with",
    "some",
    "plausible",
    "words",
    "in",
    "it",
    "and",
    "nothing",
    "of",
    "it",
    "was",
    "thought",
    "by",
    "a",
    "model",
]


@frozen
class Text:
    """The answer of provider ``name`` in ``tokens`` pieces: who it is, then words, then the end of the question. The same for the same."""

    name: str
    body: Body
    tokens: int

    @property
    def question(self) -> Any:
        """What is asked: the last message, or what there is instead."""
        messages = self.body.get("messages")
        if isinstance(messages, list):
            return messages[-1:]
        return self.body.get("input") or self.body.get("prompt")

    @property
    def asked(self) -> bool:
        """Whether there is a question."""
        return bool(self.question)

    def __len__(self) -> int:
        return max(self.tokens, 1)

    def __iter__(self) -> Iterator[str]:
        """The pieces; one by one, for there may be many."""
        yield f"{self.name}:"
        for i in range(len(self) - 2):
            yield f" {_WORDS[i % len(_WORDS)]}"
        if len(self) > 1:
            yield f" [{written(self.question)[-40:]}]"


class Wire(Protocol):
    """One route of the API: its answers whole and streamed, and its errors."""

    def whole(self, body: Body, text: Text) -> dict[str, Any]:
        """A whole answer."""
        ...

    def events(self, body: Body, text: Text) -> Iterator[bytes]:
        """The events of a stream, without the last one."""
        ...

    def terminal(self) -> bytes:
        """What ends a stream."""
        ...

    def error(self, status: int) -> dict[str, Any]:
        """An error body."""
        ...

    def error_event(self) -> bytes:
        """An error inside a stream."""
        ...


def called(body: Body) -> str | None:
    """The name of the tool that must be called, in whichever way the wire says it; none once it has given its result."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    kind = choice.get("type") if isinstance(choice, dict) else choice
    if kind in ("required", "any") and isinstance(tools, list) and tools:
        choice = tools[0]
    if not isinstance(choice, dict):
        return None
    function = choice.get("function", choice)
    return str(function["name"]) if isinstance(function, dict) and isinstance(function.get("name"), str) else None


def written(data: object) -> str:
    """As JSON. Half of a surrogate pair, which JSON may hold and UTF-8 may not, is a question mark."""
    return json.dumps(data, ensure_ascii=False).encode(errors="replace").decode()


def event(name: str, /, **data: Any) -> bytes:
    """An event with a name, which its data repeat."""
    return f"event: {name}\ndata: {written({'type': name, **data})}\n\n".encode()
