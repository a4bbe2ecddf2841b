"""How many tokens a prompt is, counted as its model counts: with the extra ``tokens``, for what is text alone and of a model whose
tokenizer and frame are known. Nothing is fetched: the tables are in the package.

Not for the event loop: the first count loads the tables, and a megabyte takes 15 milliseconds.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

#: Models by their tokenizer. Of those that think first the frame of a message is not documented: they are estimated.
_TOKENIZERS: Final = (
    (re.compile(r"(?:ft:)?(?:gpt-4o|gpt-4\.1|chatgpt-4o)(?:[-:].*)?"), "o200k_base"),
    (re.compile(r"(?:ft:)?(?:gpt-4|gpt-3\.5-turbo)(?:-(?:turbo|\d).*)?"), "cl100k_base"),
    (re.compile(r"text-embedding-(?:3-small|3-large|ada-002)"), "cl100k_base"),
)
_MESSAGE_TOKENS: Final = 3  # around each message, by OpenAI's cookbook
_NAME_TOKENS: Final = 1  # before a name
_REPLY_TOKENS: Final = 3  # what primes the answer
_PLAIN: Final = frozenset({"role", "content", "name"})
#: Fields that add nothing to the prompt. Any other one may: tools, a format of the answer.
_SILENT: Final = frozenset(
    {
        "model", "messages", "input", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n",
        "stop", "seed", "user", "metadata", "store", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs",
        "service_tier", "encoding_format", "dimensions", "safety_identifier", "prompt_cache_key",
    }
)  # fmt: skip


def counted(request: Mapping[str, Any], model: str) -> int | None:
    """The input tokens of ``request``, a body of OpenAI's chat or embeddings, at ``model``; ``None``: only an estimate can be had."""
    name = next((name for models, name in _TOKENIZERS if models.fullmatch(model)), None)
    if name is None or not request.keys() <= _SILENT or (tokenizer := _tokenizer(name)) is None:
        return None
    messages, texts = request.get("messages"), request.get("input")
    try:
        if messages is None:
            return _sum(tokenizer, [texts] if isinstance(texts, str) else texts)
        return None if texts is not None else _chat(tokenizer, messages)
    except ValueError:  # a text that is too long for it, or not of whole characters
        return None


def _chat(tokenizer: Any, messages: Any) -> int | None:
    if not isinstance(messages, list) or not all(isinstance(m, Mapping) and m.keys() <= _PLAIN for m in messages):
        return None
    words = _sum(tokenizer, [text for message in messages for text in message.values()])
    frames = sum(_MESSAGE_TOKENS + _NAME_TOKENS * ("name" in message) for message in messages)
    return None if words is None else words + frames + _REPLY_TOKENS


def _sum(tokenizer: Any, texts: Any) -> int | None:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return None
    return sum(len(tokenizer.encode_ordinary(text.encode().decode())) for text in texts)


@cache
def _tokenizer(name: str) -> Any:
    try:
        library = importlib.import_module("bpe_openai")
    except ImportError:
        return None
    return library.get_encoding(name)
