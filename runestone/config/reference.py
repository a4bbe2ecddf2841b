"""What may be set, told in four ways from the one source: a commented file, a JSON Schema, one key explained, the variables."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs

from runestone.config.document import NAMED, TABLES, AliasTable, OwnBreakerTable, variables
from runestone.config.kinds import Kind
from runestone.config.structure import kind_of

_SCHEMA: Final = "https://json-schema.org/draft/2020-12/schema"
_EXAMPLES: Final = {
    "providers": "openai-custom",
    "groups": "critical-service",
    "models": "fast",
    "prices": '"gpt-4o-mini"',
    "keys": "team-search",
}
_VALUES: Final = {
    ("providers", "kind"): '"openai"',
    ("providers", "api_key"): '{ env = "OPENAI_CUSTOM_API_KEY" }',
    ("providers", "base_url"): '"https://custom-openai-endpoint.com/v1"',
    ("providers", "retry_attempts"): "5",
    ("providers", "max_concurrency"): "100",
    ("providers", "probe_interval_ms"): "60000",
    ("providers", "default_model"): '"gpt-4o-mini"',
    ("providers", "models"): '["gpt-4o-mini", "gpt-4o"]',
    ("providers", "headers"): '{ x-team = "search" }',
    ("groups", "members"): '["openai-default", "anthropic-default"]',
    ("groups", "strategy"): '"fastest_first"',
    ("groups", "max_attempts"): "5",
    ("groups", "health_threshold"): "0.9",
    ("groups", "models"): '{ "gpt-4o" = { anthropic = "claude-sonnet-4-5" } }',
    ("groups", "weights"): "{ openai-default = 2 }",
    ("groups", "mode"): '"enhanced"',
    ("models", "model"): '"gpt-4o-mini"',
    ("models", "group"): '"critical-service"',
    ("prices", "input_per_million_usd"): "0.15",
    ("prices", "output_per_million_usd"): "0.60",
    ("prices", "cached_input_per_million_usd"): "0.075",
    ("prices", "cache_write_per_million_usd"): "0.15",
    ("prices", "cache_write_1h_per_million_usd"): "0.30",
    ("prices", "audio_input_per_million_usd"): "10",
    ("prices", "audio_output_per_million_usd"): "20",
    ("prices", "web_search_per_thousand_usd"): "10",
    ("prices", "factors"): "{ batch = 0.5, priority = 1.7 }",
    ("keys", "key"): '{ env = "TEAM_SEARCH_KEY" }',
    ("keys", "sha256"): '"' + 64 * "0" + '"',
    ("keys", "groups"): '["critical-service"]',
    ("ledger", "url"): '"sqlite:///var/lib/runestone/ledger.sqlite"',
    ("admin", "socket"): '"/run/runestone/admin.sock"',
    ("admin", "observe_group"): '"operators"',
    ("events", "file"): '"/var/log/runestone/events.jsonl"',
}


def commented_file() -> str:
    """A ``runestone.toml`` that sets nothing and says everything."""
    lines = [
        "# Settings of Runestone. Every value that is commented out here is the default, or an example where there is none.",
        '# Times are whole milliseconds, or text with a unit: 120000 or "120s". Text may hold ${VARIABLE} and ${VARIABLE:-default}.',
        "# Variables of the environment go before this file. Try it with: runestone config check --config THIS_FILE",
    ]
    for name, cls in TABLES.items():
        lines += ["", f"# {cls.__doc__}", f"[{name}]"]
        lines += list(_commented(cls, name))
    for name, cls in NAMED.items():
        lines += ["", f"# {cls.__doc__}", f"# [{name}.{_EXAMPLES[name]}]"]
        lines += list(_commented(cls, name))
    return "\n".join(lines) + "\n"


def _commented(cls: type, table: str) -> Iterator[str]:
    for attribute in attrs.fields(cls):
        variable = attribute.metadata["variable"]
        also = f" ({variable})" if variable else ""
        yield f"# {attribute.name} = {_VALUES.get((table, attribute.name)) or _written(attribute)}  # {attribute.metadata['text']}{also}"


def _written(attribute: attrs.Attribute[Any]) -> str:
    match _default(attribute):
        case bool() as value:
            return "true" if value else "false"
        case str() as value:
            return f'"{value}"'
        case None:
            return '""'
        case value:
            return str(value)


def _default(attribute: attrs.Attribute[Any]) -> Any:
    """The default as it stands in a file."""
    value = attribute.default
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type] # attrs tells its type as a function
        return None
    if attribute.metadata.get("unit") == "milliseconds" and value is not None:
        return round(value * 1000)
    return str(value) if isinstance(value, Path | Decimal) else None if value == () else value


def schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    properties: dict[str, Any] = {name: _table_schema(cls) for name, cls in TABLES.items()}
    for name, cls in NAMED.items():
        properties[name] = {"type": "object", "additionalProperties": _table_schema(cls), "description": cls.__doc__}
    return {
        "$schema": _SCHEMA,
        "title": "runestone.toml",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _table_schema(cls: type) -> dict[str, Any]:
    table = {
        "type": "object",
        "description": cls.__doc__,
        "properties": {attribute.name: _key_schema(attribute) for attribute in _fields(cls)},
        "additionalProperties": False,
    }
    return {"anyOf": [{"type": "string", "minLength": 1}, table]} if cls is AliasTable else table


def _key_schema(attribute: attrs.Attribute[Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"description": attribute.metadata["text"]}
    default = _default(attribute)
    if default is not None:
        told["default"] = default
    kind = kind_of(attribute.type)
    return {**(_either_schema() if kind is None else kind.schema()), **told}


def _either_schema() -> dict[str, Any]:
    return {"anyOf": [{"type": "boolean"}, {"type": "string"}, _table_schema(OwnBreakerTable)]}


def explained(key: str) -> dict[str, Any]:
    """One key. Raises ``LookupError`` with the nearest one."""
    found = {told["key"]: told for told in _all()}
    table, _, rest = key.partition(".")
    asked = key if key in found else f"{table}.NAME.{rest.rpartition('.')[2]}"
    if asked not in found:
        near = difflib.get_close_matches(key, found, 1)
        raise LookupError(f"there is no setting {key!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return found[asked]


def keys() -> list[str]:
    """Every key that :func:`explained` knows."""
    return [told["key"] for told in _all()]


def variable_rows() -> list[dict[str, Any]]:
    """Every variable: its key, its default, what it means."""
    rows = []
    told = {row["key"]: row for row in _all()}
    for name, path in variables().items():
        about = told[".".join((path[0], "NAME", path[2]) if path[0] == "providers" else path)]
        rows.append({"variable": name, "key": ".".join(path), "default": about["default"], "meaning": about["meaning"]})
    return rows


def _all() -> Iterator[dict[str, Any]]:
    tables = [((name,), cls) for name, cls in TABLES.items()] + [((name, "NAME"), cls) for name, cls in NAMED.items()]
    for path, cls in tables:
        for attribute in _fields(cls):
            kind: Kind | None = kind_of(attribute.type)
            yield {
                "key": ".".join((*path, attribute.name)),
                "meaning": attribute.metadata["text"],
                "default": _default(attribute),
                "unit": attribute.metadata.get("unit"),
                "allowed": "true, false or a table" if kind is None else kind.allowed,
                "variable": attribute.metadata["variable"],
            }


def _fields(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    return tuple(attrs.fields(attrs.resolve_types(cls)))
