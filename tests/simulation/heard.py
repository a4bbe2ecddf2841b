"""What a client makes of its answer, read without the gateway's own code."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from attrs import define

_PING: Final = b": ping\n"
_TOKEN: Final = re.compile(r"<(\d+)\.(\d+)>")


@define
class Heard:
    """``text`` of the answer; whether its ``finish`` reason, its real ``end`` and an ``error`` came; ``wrong``: what no client may get."""

    text: str = ""
    finish: bool = False
    end: bool = False
    error: bool = False
    wrong: str | None = None

    @property
    def whole(self) -> bool:
        """The client takes it for a whole answer."""
        return self.finish and self.end and not self.error

    @property
    def source(self) -> tuple[int, int] | None:
        """The upstream call that the text comes from and how many pieces of it; ``None``: no text. Sets ``wrong`` for a mixture."""
        pieces = [(int(call), int(index)) for call, index in _TOKEN.findall(self.text)]
        if "".join(f"<{call}.{index}>" for call, index in pieces) != self.text:
            self.wrong = f"text that nobody said: {self.text!r}"
        if not pieces:
            return None
        call = pieces[0][0]
        if pieces != [(call, index) for index in range(len(pieces))]:
            self.wrong = f"not the beginning of one answer: {self.text!r}"
        return call, len(pieces)


def heard(path: str, body: bytes, *, stream: bool) -> Heard:
    """Read the body of a 200."""
    anthropic = path == "/v1/messages"
    if not stream:
        return _whole_message(json.loads(body)) if anthropic else _whole_completion(json.loads(body))
    found = Heard()
    for event in body.replace(_PING, b"").split(b"\n\n"):
        if not event:
            continue
        if found.end or found.error:
            found.wrong = f"more after the end: {event!r}"
        lines = [line.removeprefix(b"data:").strip() for line in event.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines)
        if data == b"[DONE]" and not anthropic:
            found.end = True
        elif data:
            (_message_event if anthropic else _chunk)(found, json.loads(data))
    if body and not body.endswith(b"\n\n"):
        found.wrong = "a torn event at the end"
    return found


def _whole_completion(answer: dict[str, Any]) -> Heard:
    choice = answer["choices"][0]
    finished = choice["finish_reason"] == "stop"
    return Heard(text=choice["message"]["content"], finish=finished, end=True)


def _whole_message(answer: dict[str, Any]) -> Heard:
    text = "".join(block["text"] for block in answer["content"])
    return Heard(text=text, finish=answer["stop_reason"] == "end_turn", end=True)


def _chunk(found: Heard, data: dict[str, Any]) -> None:
    if "error" in data:
        found.error = True
    for choice in data.get("choices", ()):
        found.text += choice["delta"].get("content") or ""
        found.finish = found.finish or choice.get("finish_reason") is not None


def _message_event(found: Heard, data: dict[str, Any]) -> None:
    match data["type"]:
        case "error":
            found.error = True
        case "content_block_delta":
            found.text += data["delta"].get("text", "")
        case "message_delta":
            found.finish = found.finish or data["delta"].get("stop_reason") is not None
        case "message_stop":
            found.end = True
        case _:
            pass
