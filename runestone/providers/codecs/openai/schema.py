"""Whether a JSON schema is of the kind that OpenAI enforces (``strict``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OPEN = frozenset({"allOf", "oneOf", "not", "if", "dependentRequired", "dependentSchemas", "patternProperties"})


def is_strict(schema: Any) -> bool | None:
    """``True`` where every object is closed and requires all that it has, ``None`` where it is not so: nothing is then said."""
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, Mapping):
            if part.keys() & _OPEN:
                return None
            properties = part.get("properties")
            if isinstance(properties, Mapping) or part.get("type") == "object":
                names, required = set(properties or ()), part.get("required")
                closed = part.get("additionalProperties") is False
                if not closed or not isinstance(required, list) or not names <= {str(name) for name in required}:
                    return None
            left += [value for name, value in part.items() if name not in ("enum", "const", "default", "required")]
    return True
