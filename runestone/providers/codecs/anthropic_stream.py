"""Anthropic's stream as OpenAI's chunks: one state machine, one method per event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from attrs import define, field

from runestone.domain.chat import Usage
from runestone.domain.failure import Failure
from runestone.providers.codecs.answer import Piece
from runestone.providers.codecs.anthropic_answer import finish_of, id_of, openai_usage, refusal_of, usage_of
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.sse import Event, Events

_DONE: Final = b"data: [DONE]\n\n"
_TOO_LARGE: Final = Failure(kind="too_large", message="an event of the stream is larger than a megabyte")
_TRUNCATED: Final = Failure(kind="truncated", message="the stream ended without a stop reason")
_GARBAGE: Final = Failure(kind="invalid_answer", message="an event of the stream is not a JSON object")
_TOO_DEEP: Final = Failure(kind="invalid_answer", message="an event of the stream is nested too deeply")


@define
class _Block:
    """A content block that is open upstream."""

    kind: str
    tool: int = 0  # its index among the tool calls
    input: object = None
    has_arguments: bool = False
    thinking: list[str] = field(factory=list)
    signature: str = ""


class AnthropicStream:
    """The state of one stream. ``created`` in epoch seconds; ``include_usage`` as the client asked."""

    def __init__(self, *, created: int, include_usage: bool) -> None:
        self.usage: Usage | None = None
        self._created = created
        self._include_usage = include_usage
        self._events = Events()
        self._counts: dict[str, Any] = {}
        self._blocks: dict[object, _Block] = {}
        self._tools = 0
        self._finished = False
        self._over: Failure | bool = False  # how it ended
        self._before, self._after = self._frame({})
        self._out: list[bytes] = []
        self._content = False
        self._handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "message_start": self._message_start,
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "error": self._error,
        }

    def feed(self, data: bytes) -> Piece:
        """Take the next bytes."""
        if self._over:
            return self._piece()
        for event in self._events.feed(data):
            self._read(event)
            if self._over:
                break
        if self._events.overflow and not self._over:
            self._over = _TOO_LARGE
        return self._piece()

    def eof(self) -> Piece:
        """Whole if the stop reason has come, even without ``message_stop``."""
        if not self._over:
            if self._finished:
                self._end()
            else:
                self._over = _TRUNCATED
        return self._piece()

    def _piece(self) -> Piece:
        failure = self._over if isinstance(self._over, Failure) else None
        piece = Piece(
            data=b"".join(self._out),
            content=self._content,
            finished=self._finished,
            ended=self._over is True,
            failure=failure,
        )
        self._out.clear()
        self._content = False
        return piece

    def _read(self, event: Event) -> None:
        if not event.data or event.data.startswith(b":"):
            return  # a comment that was wrapped into data
        try:
            data: Any = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            data = None
        kind = data.get("type") if isinstance(data, dict) else None
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        try:
            if handler is not None:
                handler(data)
            elif not isinstance(data, dict):
                # A name that means nothing here may carry anything.
                self._over = _GARBAGE if event.name.decode(errors="replace") in ("", *self._handlers) else self._over
            elif data.get("error") is not None or event.name == b"error":  # the other dialect: somebody stands between
                self._over = failure_of_event(data.get("error") or data)
        except orjson.JSONEncodeError:
            self._over = _TOO_DEEP

    # -- events ------------------------------------------------------------------------------------------------------

    def _message_start(self, event: Mapping[str, Any]) -> None:
        message = _object(event.get("message"))
        self._count(message.get("usage"))
        self._before, self._after = self._frame(message)
        self._emit({"role": "assistant", "content": "", "refusal": None})

    def _block_start(self, event: Mapping[str, Any]) -> None:
        given = _object(event.get("content_block"))
        block = self._blocks[_index(event)] = _Block(str(given.get("type")), input=given.get("input"))
        text = given.get("text")
        if block.kind == "text" and isinstance(text, str) and text:
            self._emit_content({"content": text})
        elif block.kind == "tool_use":
            block.tool, self._tools = self._tools, self._tools + 1
            function = {"name": given.get("name"), "arguments": ""}
            self._emit_content(
                {"tool_calls": [{"index": block.tool, "id": given.get("id"), "type": "function", "function": function}]}
            )
        elif block.kind == "redacted_thinking":
            self._emit_content({"thinking_blocks": [dict(given)]})

    def _block_delta(self, event: Mapping[str, Any]) -> None:
        delta = _object(event.get("delta"))
        match delta.get("type"):
            case "text_delta":
                text = delta.get("text")
                if isinstance(text, str) and text:
                    self._content = True
                    self._out.append(self._before + b'{"content":' + orjson.dumps(text) + b"}" + self._after)
            case "input_json_delta":
                self._arguments(self._blocks.get(_index(event)), delta.get("partial_json"))
            case "thinking_delta":
                self._thinking(self._blocks.get(_index(event)), delta.get("thinking"))
            case "signature_delta":
                block = self._blocks.get(_index(event))
                if block is not None:
                    block.signature += str(delta.get("signature") or "")
            case _:
                pass

    def _block_stop(self, event: Mapping[str, Any]) -> None:
        block = self._blocks.pop(_index(event), None)
        if block is None:
            return
        if block.kind == "tool_use" and not block.has_arguments:
            self._arguments(block, orjson.dumps(block.input or {}).decode())
        elif block.kind == "thinking" and block.signature:
            thought = {"type": "thinking", "thinking": "".join(block.thinking), "signature": block.signature}
            self._emit({"thinking_blocks": [thought]})

    def _message_delta(self, event: Mapping[str, Any]) -> None:
        self._count(event.get("usage"))
        delta = _object(event.get("delta"))
        reason = delta.get("stop_reason")
        if reason is None or self._finished:
            return
        refusal = refusal_of(delta.get("stop_details") or event.get("stop_details"))
        if reason == "refusal" and refusal:
            self._emit_content({"refusal": refusal})
        self._finish(finish_of(reason))

    def _message_stop(self, _: Mapping[str, Any]) -> None:
        if self._finished:
            self._end()
        else:
            self._over = _TRUNCATED

    def _error(self, event: Mapping[str, Any]) -> None:
        self._over = failure_of_event(event.get("error"))

    # -- chunks ------------------------------------------------------------------------------------------------------

    def _arguments(self, block: _Block | None, text: object) -> None:
        """Arguments of a tool of the client; those of a server's own tool are not its business."""
        if block is not None and block.kind == "tool_use" and isinstance(text, str) and text:
            block.has_arguments = True
            self._emit_content({"tool_calls": [{"index": block.tool, "function": {"arguments": text}}]})

    def _thinking(self, block: _Block | None, text: object) -> None:
        if isinstance(text, str) and text:
            if block is not None:
                block.thinking.append(text)
            self._emit_content({"reasoning_content": text})

    def _finish(self, reason: str) -> None:
        self._finished = True
        self._out.append(self._before + b"{}" + self._after.replace(b"null", b'"%s"' % reason.encode(), 1))

    def _end(self) -> None:
        self._over = True
        if self._include_usage:
            usage = openai_usage(self.usage or Usage(input_tokens=0, output_tokens=0))
            self._out.append(b"data: " + orjson.dumps({**self._head, "choices": [], "usage": usage}) + b"\n\n")
        self._out.append(_DONE)

    def _emit(self, delta: Mapping[str, Any]) -> None:
        self._out.append(self._before + orjson.dumps(delta) + self._after)

    def _emit_content(self, delta: Mapping[str, Any]) -> None:
        self._content = True
        self._emit(delta)

    def _frame(self, message: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """What stands before and after the delta of every chunk: text goes out without another dictionary."""
        model = message.get("model")
        self._head = {
            "id": id_of(message.get("id")),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": model if isinstance(model, str) else "",
        }
        before = b"data: " + orjson.dumps(self._head)[:-1] + b',"choices":[{"index":0,"delta":'
        usage = b',"usage":null' if self._include_usage else b""
        return before, b',"finish_reason":null,"logprobs":null}]' + usage + b"}\n\n"

    def _count(self, usage: object) -> None:
        """Counts are cumulative: a later one replaces an earlier one, what is missing or null stays."""
        if isinstance(usage, Mapping):
            self._counts.update({name: value for name, value in usage.items() if value is not None})
            self.usage = usage_of(self._counts)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else -1
