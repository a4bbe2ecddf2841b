"""Layers of settings, each value with its origin, merged from low to high."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attrs import field, frozen

from runestone.config.kinds import Invalid, shown
from runestone.config.overlay import Whole

Path = tuple[str, ...]
Origins = dict[Path, str]

_REFERENCE: Final = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?::([-?])([^}]*))?\})")
_VALUE_DEPTH: Final = 3  # providers.NAME.api_key
_WHOLE: Final = frozenset(
    {"api_key", "key", "headers", "weights", "factors"}
)  # replaced, never mixed with what is below


@frozen
class Layer:
    """Nested tables, and where their values come from: ``origin`` of a path, the layer's own name where it is ``None``."""

    name: str
    table: Mapping[str, Any] = field(repr=False)
    origin: Callable[[Path], str | None] = lambda _: None


@frozen
class Merged:
    """All layers as one: the values, and the origin of each."""

    table: dict[str, Any] = field(repr=False)
    origins: Origins

    def origin(self, path: Path) -> str:
        """Where the value at ``path`` comes from, or what is nearest around it, or in it."""
        inside = (origin for other, origin in self.origins.items() if other[: len(path)] == path)
        around = (self.origins[path[:depth]] for depth in range(len(path) - 1, 0, -1) if path[:depth] in self.origins)
        return self.origins.get(path) or next(inside, None) or next(around, "default")

    def mix(self, layer: Layer) -> None:
        """Put ``layer`` on top: tables are mixed, lists and values are replaced. ``None`` takes a provider or a group away."""
        _mix(self.table, layer.table, (), layer, self.origins)


def merge(layers: tuple[Layer, ...]) -> Merged:
    """``layers`` from low to high."""
    merged = Merged({}, {})
    for layer in layers:
        merged.mix(layer)
    return merged


def _mix(below: dict[str, Any], table: Mapping[str, Any], path: Path, layer: Layer, origins: Origins) -> None:
    for key, value in table.items():
        here = (*path, key)
        under = below.get(key)
        mixed = not isinstance(value, Whole) and not (len(here) == _VALUE_DEPTH and key in _WHOLE)
        if isinstance(value, Mapping) and isinstance(under, dict) and mixed:
            _mix(under, value, here, layer, origins)
            continue
        for gone in [p for p in origins if p[: len(here)] == here]:
            del origins[gone]
        if value is None:
            below.pop(key, None)
            continue
        below[key] = _copied(value)
        for leaf in _leaves(here, value):
            origins[leaf] = layer.origin(leaf) or layer.name


def _copied(value: Any) -> Any:
    """A copy, without what was taken away where nothing is."""
    if not isinstance(value, Mapping):
        return value
    return {key: _copied(inner) for key, inner in value.items() if inner is not None}


def _leaves(path: Path, value: Any) -> Iterator[Path]:
    yield path
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves((*path, key), inner)


def interpolated(
    value: Any, environ: Mapping[str, str], problem: Callable[[Path, Invalid], None], path: Path = ()
) -> Any:
    """``value`` with ``${VAR}``, ``${VAR:-default}``, ``${VAR:?message}`` and ``$$`` replaced in its texts, not in its keys."""
    match value:
        case Mapping():
            return {key: interpolated(inner, environ, problem, (*path, key)) for key, inner in value.items()}
        case list():
            return [interpolated(inner, environ, problem, path) for inner in value]
        case str() if "$" in value:
            return _REFERENCE.sub(lambda match: _replacement(match, environ, problem, path), value)
        case _:
            return value


def _replacement(
    match: re.Match[str], environ: Mapping[str, str], problem: Callable[[Path, Invalid], None], path: Path
) -> str:
    name, how, text = match.groups()
    if name is None:
        return "$"
    if held := environ.get(name):
        return held
    if how == "-":
        return str(text)
    told = f": {text}" if how == "?" and text else ""
    problem(path, Invalid(f"needs the variable {name}{told}", "nothing", f"set {name}, or write ${{{name}:-default}}"))
    return ""


def location(value: Any, environ: Mapping[str, str], read: Callable[[str], str]) -> Any:
    """The secret that ``value`` names the place of; anything else is given back as it is.

    Raises:
        Invalid: there is nothing in that place, or it cannot be read.
    """
    if not isinstance(value, Mapping):
        return value
    match dict(value):
        case {"env": str(name), **rest} if not rest:
            if not (held := environ.get(name, "").strip()):
                raise MissingSecret(f"set {name[:60]}")
            return held
        case {"file": str(path), **rest} if not rest:
            return _held(path, read)
        case {"credential": str(name), **rest} if not rest:
            if not (directory := environ.get("CREDENTIALS_DIRECTORY")):
                raise Invalid(
                    "names a credential", "no CREDENTIALS_DIRECTORY", "a service that systemd gives credentials"
                )
            return _held(f"{directory}/{name}", read)
        case _:
            keys = ", ".join(sorted(map(str, value)))[:60]
            raise Invalid(
                "is no place of a secret", f"a table with {keys or 'nothing'}", "one of env, file, credential"
            )


class MissingSecret(Exception):
    """The variable of a secret is not set: its owner is not started, which is no mistake in the settings."""


def _held(path: str, read: Callable[[str], str]) -> str:
    try:
        text = read(path).strip()
    except (OSError, ValueError) as error:
        raise Invalid(
            "cannot be read", f"{shown_path(path)} ({type(error).__name__})", "a readable text file"
        ) from None
    if not text:
        raise Invalid("cannot be read", f"{shown_path(path)} (it is empty)", "a file that holds the key")
    return text


def shown_path(path: str) -> str:
    """A path as it may be told: a key that was put where a path belongs must not be shown."""
    return path[:100] if path.startswith(("/", "./", "../")) else "a path that is not absolute"


__all__ = ["Layer", "Merged", "MissingSecret", "interpolated", "location", "merge", "shown", "shown_path"]
