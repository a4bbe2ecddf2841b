"""JSON schemas as Anthropic's structured output takes them: objects closed, and only the keywords that it knows.

Other keywords become words of the description, as in the provider's own SDK: the model may still follow what nobody enforces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

_KEPT: Final = frozenset({"type", "enum", "const", "$ref", "title", "description", "default", "required"})
_MAPS: Final = frozenset({"properties", "$defs", "definitions"})  # their keys are names, not keywords
_LISTS: Final = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_SILENT: Final = frozenset({"additionalProperties", "$schema", "$id"})
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)


def _is_known(key: str, value: object) -> bool:
    return (key == "format" and isinstance(value, str) and value in _FORMATS) or (key == "minItems" and value in (0, 1))


def strict(schema: Any) -> Any:
    """``schema`` for ``output_config.format``."""
    if not isinstance(schema, Mapping):
        return schema
    out: dict[str, Any] = {}
    told: list[str] = []
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, Mapping):
            out[key] = {name: strict(part) for name, part in value.items()}
        elif key in _LISTS and isinstance(value, list) and _LISTS[key] not in out:
            out[_LISTS[key]] = [strict(part) for part in value]
        elif key == "items" and isinstance(value, Mapping):
            out[key] = strict(value)
        elif key in _KEPT or _is_known(key, value):
            out[key] = value
        elif key not in _SILENT:
            told.append(f"{key}: {orjson.dumps(value).decode()}")
    if told:
        words = "{" + ", ".join(told) + "}"
        out["description"] = f"{out['description']}\n\n{words}" if out.get("description") else words
    kind = schema.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema:
        out["additionalProperties"] = False
    return out
