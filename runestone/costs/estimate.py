"""How many tokens a request will be, before anybody has counted them. An estimate, and always told as one.

It knows no tokenizer: four bytes a token, a few for each message, a fixed number for an image. :mod:`~runestone.costs.correction` makes up
for what a model's own tokenizer does otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.chat import Usage

_BYTES_A_TOKEN: Final = 4.0  # OpenAI's rule of thumb for English; other scripts have more bytes a character
_MESSAGE_TOKENS: Final = 4  # role and separators of each message, by OpenAI's cookbook
_REPLY_TOKENS: Final = 3  # what primes the answer
_IMAGE_TOKENS: Final = 765  # one of 1024 x 1024 in high detail
_IMAGES: Final = frozenset({"image_url", "input_image", "image"})
_ANSWER_TOKENS: Final = 256  # where the request sets no limit


def estimated(request: Mapping[str, Any]) -> Usage:
    """The tokens of a body of either wire: the prompt by its bytes, the answer by its limit (an upper bound), else 256."""
    inputs = _REPLY_TOKENS + sum(_text(request.get(name)) for name in ("tools", "prompt", "instructions"))
    inputs += _parts(request.get("system"))
    messages = request.get("messages", request.get("input"))
    for message in messages if isinstance(messages, list) else [messages]:
        inputs += _MESSAGE_TOKENS + (_content(message) if isinstance(message, Mapping) else _text(message))
    limits = (request.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    limit = next((given for given in limits if given is not None), None)
    answers = request.get("n") if isinstance(request.get("n"), int) else 1
    whole = isinstance(limit, int) and not isinstance(limit, bool) and limit > 0
    outputs = (int(limit or 0) if whole else _ANSWER_TOKENS) * max(1, answers or 1)
    return Usage(input_tokens=inputs, output_tokens=outputs)


def _content(message: Mapping[str, Any]) -> int:
    return _text(message.get("tool_calls")) + _parts(message.get("content", message.get("output")))


def _parts(content: Any) -> int:
    tokens = 0
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, Mapping):
            tokens += _text(part)
        elif part.get("type") in _IMAGES:
            tokens += _IMAGE_TOKENS
        elif "content" in part:  # what a tool gave back
            tokens += _text(part["content"])
        else:
            tokens += sum(_text(part.get(name)) for name in ("text", "thinking", "input"))
    return tokens


def _text(value: Any) -> int:
    if value is None:
        return 0
    return math.ceil(len((value if isinstance(value, str) else str(value)).encode("utf-8", "replace")) / _BYTES_A_TOKEN)
