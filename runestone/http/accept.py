"""What a client of a path with two forms would rather read."""

from __future__ import annotations

from typing import Final

_JSON: Final = "application/json"
_TEXT: Final = frozenset({"text/plain", "application/openmetrics-text"})


def prefers_json(accept: str) -> bool:
    """Whether ``accept`` names JSON, and nothing that is text before it or with more weight. Who takes anything gets text."""
    weights: dict[str, tuple[float, int]] = {}
    for place, part in enumerate(accept.split(",")):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights.setdefault(kind, (_weight(parameters), -place))
    json = weights.get(_JSON, (0.0, 0))
    return json[0] > 0.0 and all(json > weights.get(kind, (0.0, 0)) for kind in _TEXT)


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
