"""A body of completions as the canonical chat: the prompt is the user's turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.conversation import Chat, Refused, Text, Turn
from runestone.providers.codecs.fields import listed, number, positive

#: Fields that are read, or that mean nothing to a provider.
_KNOWN: Final = frozenset(
    {
        "model", "prompt", "stream", "stream_options", "max_tokens", "temperature", "top_p", "stop", "user", "n", "best_of", "logprobs",
        "echo", "suffix",
    }
)  # fmt: skip
#: Values with which a field says what it would say by its absence.
_DEFAULTS: Final[dict[str, tuple[object, ...]]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
}


def read(body: Mapping[str, Any]) -> Chat:
    """What ``body`` asks. Raises :class:`Refused` for what a conversation has no word for."""
    for name, neutral in (("n", 1), ("best_of", 1), ("logprobs", 0), ("echo", False), ("suffix", "")):
        if body.get(name) not in (None, neutral):
            raise Refused(name, f"This provider converses and does not complete: leave {name} out.")
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Refused("prompt", "prompt must be one string for this provider.")
    stop, user = body.get("stop"), body.get("user")
    stops = (
        []
        if stop is None
        else listed([stop] if isinstance(stop, str) else stop, "stop", "a string or a list of strings")
    )
    return Chat(
        turns=(Turn("user", (Text(prompt, where="prompt"),)),),
        stream=body.get("stream") is True,
        max_tokens=positive(body, "max_tokens"),
        temperature=number(body, "temperature"),
        top_p=number(body, "top_p"),
        stop=tuple(stops),
        user=str(user) if user else None,
        dropped=tuple(
            name
            for name, value in body.items()
            if name not in _KNOWN and value is not None and value not in _DEFAULTS.get(name, ())
        ),
    )
