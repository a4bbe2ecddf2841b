"""Answers as completions."""

from __future__ import annotations

from typing import Any

from runestone.domain.answer import Answer, Finish
from runestone.domain.chat import ChatRequest
from runestone.domain.conversation import Text
from runestone.providers.codecs.openai.answer_writer import usage


def write(answer: Answer, chat: ChatRequest, created: int) -> dict[str, Any]:
    """A whole answer: its words alone."""
    del chat
    text = "".join(block.text for block in answer.blocks if isinstance(block, Text))
    body = {**head(answer.id, answer.model, created), "choices": [choice(text, answer.finish)]}
    return body | ({} if answer.usage is None else {"usage": usage(answer.usage)})


def head(given: str, model: str, created: int) -> dict[str, Any]:
    """What each object begins with; the same answer has always the same id."""
    id_ = "cmpl-" + (given.removeprefix("msg_").removeprefix("chatcmpl-") or "unknown")
    return {"id": id_, "object": "text_completion", "created": created, "model": model}


def choice(text: str, finish: Finish | None) -> dict[str, Any]:
    """The one choice. A call of a tool, which nobody offered, is an end like any other."""
    reason = "stop" if finish == "tool_calls" else finish
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
