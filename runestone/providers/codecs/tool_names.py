"""Names of tools that are too long for OpenAI's wire: shortened on the way there, and whole again on the way back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

LONGEST: Final = 64
_HASH: Final = 8


def shortened(name: str) -> str:
    """``name``, or the beginning of it with a hash of the whole; the same name is always shortened alike."""
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
    return f"{name[: LONGEST - _HASH - 1]}_{digest}"


def originals(body: Mapping[str, Any]) -> dict[str, str]:
    """The names of a client's tools that are too long, by what they are shortened to."""
    tools = body.get("tools")
    names = [tool.get("name") for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list) else []
    return {shortened(name): name for name in names if isinstance(name, str) and len(name) > LONGEST}
