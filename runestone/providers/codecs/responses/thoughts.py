"""What a model thought, as the ``encrypted_content`` that clients give back as it is: nobody but its provider can use it."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import orjson

from runestone.domain.conversation import RedactedThinking, Thinking
from runestone.providers.codecs.openai.answer_writer import thought
from runestone.providers.codecs.openai.messages_reader import thoughts_of

_OURS: Final = "runestone:"


def sealed(block: Thinking | RedactedThinking) -> str | None:
    """``block`` as text; nothing for a thought that nobody signed."""
    if isinstance(block, Thinking) and not block.signature:
        return None
    return _OURS + base64.b64encode(orjson.dumps(thought(block))).decode()


def opened(content: object, where: str) -> list[Thinking | RedactedThinking]:
    """The thoughts in ``content``: whatever else stands there is another's."""
    if not isinstance(content, str) or not content.startswith(_OURS):
        return []
    try:
        block: Any = orjson.loads(base64.b64decode(content[len(_OURS) :], validate=True))
    except (binascii.Error, ValueError):
        return []
    return thoughts_of([block], where)
