"""Chat completions as answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from runestone.domain.answer import Answer, Finish
from runestone.domain.catalogue import Row
from runestone.domain.conversation import RedactedThinking, Text, Thinking, ToolCall
from runestone.domain.failure import Failure, UpstreamError
from runestone.providers.codecs.openai.usage import usage_of

_FINISH: Final[dict[object, Finish]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def read(answer: Mapping[str, Any], *, row: Row) -> Answer:
    """A whole answer of a provider of ``row``. Raises :class:`UpstreamError`."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise _invalid("the answer has no choices")
    calls = message.get("tool_calls")
    tools = tuple(_call(call) for call in (calls if isinstance(calls, list) else ()))
    said, refusal = words_of(message.get("content")), message.get("refusal")
    thought = message.get("reasoning_content") or message.get("reasoning")
    blocks: list[Text | Thinking | RedactedThinking | ToolCall] = []
    if isinstance(thought, str) and thought:
        blocks.append(Thinking(text=thought))
    if said:
        blocks.append(Text(said))
    return Answer(
        id=_text(answer.get("id")),
        model=_text(answer.get("model")),
        blocks=(*blocks, *tools),
        finish=finish_of(choice.get("finish_reason"), called=bool(tools)),
        refusal=refusal if isinstance(refusal, str) and refusal else None,
        usage=usage_of(answer, row),
    )


def finish_of(reason: object, *, called: bool) -> Finish:
    """The finish reason. A model that was made to call says ``stop``: a call is a call all the same."""
    if called:
        return "tool_calls"
    return _FINISH.get(reason, "stop") if isinstance(reason, str) else "stop"


def words_of(content: object) -> str:
    """The text of a message; some servers give it in parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(p["text"] for p in parts if isinstance(p, Mapping) and isinstance(p.get("text"), str))


def _call(call: object) -> ToolCall:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise _invalid("a call of a tool in the answer is none of a function")
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        arguments = None
    if not isinstance(arguments, dict):
        raise _invalid("the arguments of a call in the answer are no JSON object")
    return ToolCall(id=_text(call.get("id")), name=_text(function.get("name")), input=arguments)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _invalid(message: str) -> UpstreamError:
    return UpstreamError(Failure(kind="invalid_answer", message=message))
