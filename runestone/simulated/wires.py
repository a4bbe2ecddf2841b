"""The answers of the two wires, written down from the providers' documentation and from nothing of the gateway's own codecs."""

from __future__ import annotations

import json
from collections.abc import Mapping
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


def text(name: str, body: Mapping[str, Any], tokens: int) -> list[str]:
    """The answer of provider ``name``, in ``tokens`` pieces: who it is, then words, then the end of the question."""
    asked = json.dumps(body.get("messages", [])[-1:], ensure_ascii=False)[-40:]
    words = [f"{name}:", *(_WORDS[i % len(_WORDS)] for i in range(max(tokens - 2, 0))), f"[{asked}]"]
    return [word if i == 0 else f" {word}" for i, word in enumerate(words[: max(tokens, 1)])]


@frozen
class OpenAI:
    """``/v1/chat/completions``."""

    name: str

    def whole(self, body: Mapping[str, Any], pieces: list[str]) -> dict[str, Any]:
        """A completion."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(pieces), "refusal": None}
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
            "usage": self._usage(len(pieces)),
        }

    def events(self, body: Mapping[str, Any], pieces: list[str]) -> list[bytes]:
        """The events of a stream, without ``[DONE]``."""
        deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
        if (tool := _forced_tool(body)) is not None:
            call = {
                "index": 0,
                "id": "call_simulated",
                "type": "function",
                "function": {"name": tool, "arguments": "{}"},
            }
            deltas += [({"tool_calls": [call]}, None), ({}, "tool_calls")]
        else:
            deltas += [({"content": piece}, None) for piece in pieces] + [({}, "stop")]
        out = [self._chunk(body, [{"index": 0, "delta": d, "logprobs": None, "finish_reason": f}]) for d, f in deltas]
        if (body.get("stream_options") or {}).get("include_usage"):
            out.append(self._chunk(body, [], usage=self._usage(len(pieces))))
        return out

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
        return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


@frozen
class Anthropic:
    """``/v1/messages``."""

    name: str

    def whole(self, body: Mapping[str, Any], pieces: list[str]) -> dict[str, Any]:
        """A message."""
        return {
            **self._start(body),
            "content": [{"type": "text", "text": "".join(pieces)}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 9, "output_tokens": len(pieces)},
        }

    def events(self, body: Mapping[str, Any], pieces: list[str]) -> list[bytes]:
        """The events of a stream, without ``message_stop``."""
        start = {
            **self._start(body),
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 9, "output_tokens": 1},
        }
        return [
            self._event("message_start", message=start),
            self._event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            self._event("ping"),
            *(self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": p}) for p in pieces),
            self._event("content_block_stop", index=0),
            self._event(
                "message_delta",
                delta={"stop_reason": "end_turn", "stop_sequence": None},
                usage={"output_tokens": len(pieces)},
            ),
        ]

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
        text_ = json.dumps({"type": name, **data}, ensure_ascii=False)
        return f"event: {name}\ndata: {text_}\n\n".encode()


def _forced_tool(body: Mapping[str, Any]) -> str | None:
    choice, tools = body.get("tool_choice"), body.get("tools") or []
    if isinstance(choice, dict):
        return str(choice.get("function", {}).get("name"))
    return str(tools[0]["function"]["name"]) if choice == "required" and tools else None
