"""How many tokens a request will be, before anybody has counted them. An estimate, and always told as one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.chat import Usage

_BYTES_A_TOKEN: Final = 4.0  # OpenAI's rule of thumb for English; other scripts have more bytes a character
_MESSAGE_TOKENS: Final = 4  # role and separators of each message, by OpenAI's cookbook
_REPLY_TOKENS: Final = 3  # what primes the answer
_IMAGE_TOKENS: Final = 765  # one of 1024 x 1024 in high detail
_ANSWER_TOKENS: Final = 256  # where the request sets no limit


def estimated(request: Mapping[str, Any]) -> Usage:
    """The tokens of a body of OpenAI's wire: the prompt by its bytes, the answer by its limit (an upper bound), else 256."""
    messages = request.get("messages")
    inputs = _REPLY_TOKENS + _text(request.get("tools"))
    for message in messages if isinstance(messages, list) else ():
        inputs += _MESSAGE_TOKENS + (_content(message) if isinstance(message, Mapping) else 0)
    limit = request.get("max_completion_tokens", request.get("max_tokens"))
    whole = isinstance(limit, int) and not isinstance(limit, bool) and limit > 0
    answers = request.get("n") if isinstance(request.get("n"), int) else 1
    outputs = (limit if whole else _ANSWER_TOKENS) * max(1, answers or 1)
    return Usage(input_tokens=inputs, output_tokens=outputs)


def _content(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    tokens = _text(message.get("tool_calls"))
    for part in parts:
        if isinstance(part, Mapping) and part.get("type") in ("image_url", "input_image", "image"):
            tokens += _IMAGE_TOKENS
        else:
            tokens += _text(part.get("text") if isinstance(part, Mapping) else part)
    return tokens


def _text(value: Any) -> int:
    if value is None:
        return 0
    return math.ceil(len((value if isinstance(value, str) else str(value)).encode("utf-8", "replace")) / _BYTES_A_TOKEN)
