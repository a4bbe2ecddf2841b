"""Anthropic's messages, and the count of their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from runestone.domain import fault_answers
from runestone.simulated.wires.text import Text, called, event, written


@frozen
class Anthropic:
    """``/v1/messages``."""

    name: str

    def whole(self, body: Mapping[str, Any], text: Text) -> dict[str, Any]:
        """A message."""
        usage = {"input_tokens": 9, "output_tokens": len(text)}
        content = [block for block, _ in self._blocks(body, text)]
        return {**self._start(body), "content": content, "stop_reason": self._stop_reason(body), "usage": usage}

    def events(self, body: Mapping[str, Any], text: Text) -> Iterator[bytes]:
        """The events of a stream, without ``message_stop``."""
        usage = {"input_tokens": 9, "output_tokens": 1}
        yield event("message_start", message={**self._start(body), "content": [], "stop_reason": None, "usage": usage})
        for index, (block, deltas) in enumerate(self._blocks(body, text)):
            empty: dict[str, dict[str, Any]] = {
                "tool_use": {"input": {}},
                "thinking": {"thinking": "", "signature": ""},
                "text": {"text": ""},
            }
            yield event("content_block_start", index=index, content_block={**block, **empty[block["type"]]})
            if index == 0:
                yield event("ping")
            for delta in deltas:
                yield event("content_block_delta", index=index, delta=delta)
            yield event("content_block_stop", index=index)
        delta = {"stop_reason": self._stop_reason(body), "stop_sequence": None}
        yield event("message_delta", delta=delta, usage={"output_tokens": len(text)})

    def _blocks(self, body: Mapping[str, Any], text: Text) -> Iterator[tuple[dict[str, Any], Iterator[dict[str, Any]]]]:
        """Each block whole, and its deltas."""
        thinking = body.get("thinking")
        if isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive"):
            thought = {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"}
            deltas: list[dict[str, Any]] = [
                {"type": "thinking_delta", "thinking": part} for part in ("Let me", " see.")
            ]
            yield thought, iter([*deltas, {"type": "signature_delta", "signature": "c2lnbmVk"}])
        if (tool := called(body)) is not None:
            parts = ({"type": "input_json_delta", "partial_json": part} for part in ("", "{", "}"))
            yield {"type": "tool_use", "id": "toolu_simulated", "name": tool, "input": {}}, parts
        else:
            yield {"type": "text", "text": "".join(text)}, ({"type": "text_delta", "text": piece} for piece in text)

    def _stop_reason(self, body: Mapping[str, Any]) -> str:
        return "end_turn" if called(body) is None else "tool_use"

    def terminal(self) -> bytes:
        """What ends a stream."""
        return event("message_stop")

    def error(self, status: int) -> dict[str, Any]:
        """An error body."""
        return fault_answers.anthropic_error(status)

    def error_event(self) -> bytes:
        """An error inside a stream."""
        return fault_answers.anthropic_error_event()

    def _start(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": "msg_simulated",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "stop_sequence": None,
        }


@frozen
class TokenCount(Anthropic):
    """``/v1/messages/count_tokens``: a token for each four characters."""

    def whole(self, body: Mapping[str, Any], text: Text) -> dict[str, Any]:
        """The count."""
        return {"input_tokens": len(written(body.get("messages"))) // 4 + 1}
