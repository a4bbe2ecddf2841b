"""OpenAI's responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from runestone.domain import fault_answers
from runestone.simulated.wires.openai import OpenAI
from runestone.simulated.wires.text import Text, called, event

Item = dict[str, Any]


@frozen
class Responses(OpenAI):
    """``/v1/responses``."""

    def whole(self, body: Mapping[str, Any], text: Text) -> dict[str, Any]:
        """A response."""
        return self._response(body, "completed", [self._item(body, text, "completed")], len(text))

    def events(self, body: Mapping[str, Any], text: Text) -> Iterator[bytes]:
        """All events of a stream: its last one tells the end, and whoever leaves that out has not ended."""
        numbered = enumerate(self._steps(body, text))
        yield from (event(name, sequence_number=number, **data) for number, (name, data) in numbered)

    def terminal(self) -> bytes:
        """Nothing more."""
        return b""

    def error_event(self) -> bytes:
        """An error inside a stream."""
        return fault_answers.responses_error_event()

    def _steps(self, body: Mapping[str, Any], text: Text) -> Iterator[tuple[str, dict[str, Any]]]:
        begun = self._response(body, "in_progress", [], None)
        yield "response.created", {"response": begun}
        yield "response.in_progress", {"response": begun}
        item = self._item(body, text, "completed")
        place = {"item_id": item["id"], "output_index": 0}
        if item["type"] == "function_call":
            added = {**item, "arguments": "", "status": "in_progress"}
            yield "response.output_item.added", {"output_index": 0, "item": added}
            for part in ("{", "}"):
                yield "response.function_call_arguments.delta", {**place, "delta": part}
            yield "response.function_call_arguments.done", {**place, "name": item["name"], "arguments": "{}"}
        else:
            added = {**item, "content": [], "status": "in_progress"}
            yield "response.output_item.added", {"output_index": 0, "item": added}
            empty = {**item["content"][0], "text": ""}
            yield "response.content_part.added", {**place, "content_index": 0, "part": empty}
            for piece in text:
                yield "response.output_text.delta", {**place, "content_index": 0, "delta": piece, "logprobs": []}
            words = item["content"][0]["text"]
            yield "response.output_text.done", {**place, "content_index": 0, "text": words, "logprobs": []}
            yield "response.content_part.done", {**place, "content_index": 0, "part": item["content"][0]}
        yield "response.output_item.done", {"output_index": 0, "item": item}
        yield "response.completed", {"response": self._response(body, "completed", [item], len(text))}

    def _item(self, body: Mapping[str, Any], text: Text, status: str) -> Item:
        if (tool := called(body)) is not None:
            call = {"call_id": "call_simulated", "name": tool, "arguments": "{}"}
            return {"id": "fc_simulated", "type": "function_call", "status": status, **call}
        part = {"type": "output_text", "text": "".join(text), "annotations": [], "logprobs": []}
        return {"id": "msg_simulated", "type": "message", "role": "assistant", "status": status, "content": [part]}

    def _response(self, body: Mapping[str, Any], status: str, output: list[Item], tokens: int | None) -> dict[str, Any]:
        usage = (
            None
            if tokens is None
            else {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 9 + tokens,
            }
        )
        return {
            "id": "resp_simulated",
            "object": "response",
            "created_at": 1_760_000_000,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "metadata": {},
            "model": body.get("model"),
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "top_p": 1.0,
            "usage": usage,
        }
