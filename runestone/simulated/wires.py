"""The answers of the two wires, written down from the providers' documentation and from nothing of the gateway's own codecs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

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
_STATUS_TYPES = {
    400: ("invalid_request_error", "invalid_request"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "model_not_found"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@frozen
class Text:
    """The answer of provider ``name`` in ``tokens`` pieces: who it is, then words, then the end of the question. The same for the same."""

    name: str
    body: Mapping[str, Any]
    tokens: int

    @property
    def asked(self) -> bool:
        """Whether there is a question."""
        messages = self.body.get("messages")
        return isinstance(messages, list) and bool(messages)

    def __len__(self) -> int:
        return max(self.tokens, 1)

    def __iter__(self) -> Iterator[str]:
        """The pieces; one by one, for there may be many."""
        yield f"{self.name}:"
        for i in range(len(self) - 2):
            yield f" {_WORDS[i % len(_WORDS)]}"
        if len(self) > 1:
            yield f" [{_written(self.body['messages'][-1:])[-40:]}]"


@frozen
class OpenAI:
    """``/v1/chat/completions``."""

    name: str

    def whole(self, body: Mapping[str, Any], text: Text) -> dict[str, Any]:
        """A completion."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(text), "refusal": None}
        finish = "stop"
        if (tool := _forced_tool(body)) is not None:
            call = {"id": "call_simulated", "type": "function", "function": {"name": tool, "arguments": "{}"}}
            message, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
        return {
            "id": "chatcmpl-simulated",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": body.get("model"),
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": self._usage(len(text)),
        }

    def events(self, body: Mapping[str, Any], text: Text) -> Iterator[bytes]:
        """The events of a stream, without ``[DONE]``."""
        for delta, finish in self._deltas(body, text):
            yield self._chunk(body, [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])
        options = body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            yield self._chunk(body, [], usage=self._usage(len(text)))

    def terminal(self) -> bytes:
        """What ends a stream."""
        return b"data: [DONE]\n\n"

    def error(self, status: int) -> dict[str, Any]:
        """An error body."""
        kind, code = _STATUS_TYPES.get(status, ("server_error", "server_error"))
        return {"error": {"message": f"simulated error {status}", "type": kind, "param": None, "code": code}}

    def error_event(self) -> bytes:
        """An error inside a stream."""
        return b"data: " + json.dumps(self.error(500)).encode() + b"\n\n"

    def _deltas(self, body: Mapping[str, Any], text: Text) -> Iterator[tuple[dict[str, Any], str | None]]:
        yield {"role": "assistant", "content": ""}, None
        if (tool := _forced_tool(body)) is not None:
            function = {"name": tool, "arguments": "{}"}
            yield {"tool_calls": [{"index": 0, "id": "call_simulated", "type": "function", "function": function}]}, None
            yield {}, "tool_calls"
            return
        for piece in text:
            yield {"content": piece}, None
        yield {}, "stop"

    def _usage(self, tokens: int) -> dict[str, int]:
        return {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}

    def _chunk(self, body: Mapping[str, Any], choices: list[dict[str, Any]], **more: Any) -> bytes:
        data = {
            "id": "chatcmpl-simulated",
            "object": "chat.completion.chunk",
            "created": 1_760_000_000,
            "model": body.get("model"),
            "choices": choices,
            **more,
        }
        return f"data: {_written(data)}\n\n".encode()


@frozen
class Anthropic:
    """``/v1/messages``."""

    name: str

    def whole(self, body: Mapping[str, Any], text: Text) -> dict[str, Any]:
        """A message."""
        return {
            **self._start(body),
            "content": [{"type": "text", "text": "".join(text)}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 9, "output_tokens": len(text)},
        }

    def events(self, body: Mapping[str, Any], text: Text) -> Iterator[bytes]:
        """The events of a stream, without ``message_stop``."""
        usage = {"input_tokens": 9, "output_tokens": 1}
        yield self._event(
            "message_start", message={**self._start(body), "content": [], "stop_reason": None, "usage": usage}
        )
        yield self._event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield self._event("ping")
        for piece in text:
            yield self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
        yield self._event("content_block_stop", index=0)
        yield self._event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": len(text)},
        )

    def terminal(self) -> bytes:
        """What ends a stream."""
        return self._event("message_stop")

    def error(self, status: int) -> dict[str, Any]:
        """An error body."""
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        return {
            "type": "error",
            "error": {"type": kind, "message": f"simulated error {status}"},
            "request_id": "req_simulated",
        }

    def error_event(self) -> bytes:
        """An error inside a stream."""
        return self._event("error", error={"type": "overloaded_error", "message": "simulated overload"})

    def _start(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": "msg_simulated",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "stop_sequence": None,
        }

    def _event(self, name: str, **data: Any) -> bytes:
        return f"event: {name}\ndata: {_written({'type': name, **data})}\n\n".encode()


def _forced_tool(body: Mapping[str, Any]) -> str | None:
    choice, tools = body.get("tool_choice"), body.get("tools")
    if choice == "required" and isinstance(tools, list) and tools:
        choice = tools[0]
    function = choice.get("function") if isinstance(choice, dict) else None
    return str(function.get("name")) if isinstance(function, dict) else None


def _written(data: object) -> str:
    """As JSON. Half of a surrogate pair, which JSON may hold and UTF-8 may not, is a question mark."""
    return json.dumps(data, ensure_ascii=False).encode(errors="replace").decode()
