"""OpenAI's chat completions, the older completions, and embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from runestone.domain import fault_answers
from runestone.simulated.wires.text import Text, called, written


@frozen
class OpenAI:
    """``/v1/chat/completions``."""

    name: str

    def whole(self, body: Mapping[str, Any], text: Text) -> dict[str, Any]:
        """A completion."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(text), "refusal": None}
        finish = "stop"
        if (tool := called(body)) is not None:
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
        return fault_answers.openai_error(status)

    def error_event(self) -> bytes:
        """An error inside a stream."""
        return fault_answers.openai_error_event()

    def _deltas(self, body: Mapping[str, Any], text: Text) -> Iterator[tuple[dict[str, Any], str | None]]:
        yield {"role": "assistant", "content": ""}, None
        if (tool := called(body)) is not None:
            function = {"name": tool, "arguments": ""}
            yield {"tool_calls": [{"index": 0, "id": "call_simulated", "type": "function", "function": function}]}, None
            for part in ("{", "}"):
                yield {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}, None
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
        return f"data: {written(data)}\n\n".encode()


@frozen
class Completions(OpenAI):
    """``/v1/completions``."""

    def whole(self, body: Mapping[str, Any], text: Text) -> dict[str, Any]:
        """A completion."""
        return {**self._head(body), "choices": [self._text("".join(text), "stop")], "usage": self._usage(len(text))}

    def events(self, body: Mapping[str, Any], text: Text) -> Iterator[bytes]:
        """The events of a stream, without ``[DONE]``."""
        for piece, finish in [*((piece, None) for piece in text), ("", "stop")]:
            yield self._written({**self._head(body), "choices": [self._text(piece, finish)]})
        options = body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            yield self._written({**self._head(body), "choices": [], "usage": self._usage(len(text))})

    def _head(self, body: Mapping[str, Any]) -> dict[str, Any]:
        kind = "text_completion"
        return {"id": "cmpl-simulated", "object": kind, "created": 1_760_000_000, "model": body.get("model")}

    def _text(self, text: str, finish: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}

    def _written(self, data: Mapping[str, Any]) -> bytes:
        return f"data: {written(data)}\n\n".encode()


@frozen
class Embeddings(OpenAI):
    """``/v1/embeddings``: a short vector for each input, the same for the same."""

    def whole(self, body: Mapping[str, Any], text: Text) -> dict[str, Any]:
        """The vectors, as numbers or packed."""
        given = body.get("input")
        inputs = given if isinstance(given, list) else [given]
        packed = body.get("encoding_format") == "base64"
        data = []
        for index, one in enumerate(inputs):
            vector = [len(written(one)) / 64, index / 4, 0.5]
            shown = base64.b64encode(struct.pack("<3f", *vector)).decode() if packed else vector
            data.append({"object": "embedding", "index": index, "embedding": shown})
        usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
        return {"object": "list", "data": data, "model": body.get("model"), "usage": usage}
