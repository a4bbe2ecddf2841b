"""From a file and the environment to settings. :func:`read` does what needs the outside world, :func:`build` makes settings of it.

Every problem is told, at once, with the place that it comes from; no value of a secret ever is.
"""

from __future__ import annotations

import difflib
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import evolve, field, frozen

from runestone.config import inbound
from runestone.config.document import known_variables, variables
from runestone.config.kinds import Invalid
from runestone.config.layers import Layer, interpolated, shown_path
from runestone.config.ledger import default_url
from runestone.config.settings import ConfigurationError, InboundKey, Problem, Settings
from runestone.config.toml_lines import line_of, lines
from runestone.domain.catalogue import BUILT_IN
from runestone.domain.secret import Secret

Key = tuple[str, ...]

_DEFAULTS: Final = Layer("default", {"providers": {f"{kind}-default": {"kind": kind} for kind in BUILT_IN}})
_FLAGS: Final = {
    "--host": ("server", "host"),
    "--port": ("server", "port"),
    "--health-port": ("health", "port"),
    "--log-level": ("log", "level"),
}
_PASSWORD: Final = re.compile(r"://[^/@]*:[^/@]+@")
_POSITION: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")


@frozen(kw_only=True)
class Sources:
    """What settings are made of, as it was read: layers from low to high, and what was wrong or odd in reading them.

    ``left_out``: the providers of a file that are not looked at, because only the simulated ones are there.
    """

    layers: tuple[Layer, ...]
    environ: Mapping[str, str] = field(repr=False)
    inbound_keys: tuple[InboundKey, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    file: Path | None = None
    left_out: frozenset[str] = frozenset()


class Reader:
    """Reads variables and the files that they name, and gathers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[Problem] = []

    def problem(self, name: str, what: str, got: str, allowed: str) -> None:
        """Note one of the variable ``name``."""
        self.problems.append(Problem(where=f"env:{name}", what=what, got=got, allowed=allowed))

    def text(self, name: str) -> str | None:
        """The value of ``name``, or of the file that ``name_FILE`` names; empty is unset."""
        value, path = self.environ.get(name, "").strip() or None, self.environ.get(f"{name}_FILE") or None
        if value is not None and path is not None:
            self.problem(name, "is set twice", f"both {name} and {name}_FILE", "one of them")
        if value is None and path is not None:
            value = self.file(f"{name}_FILE", path)
        return value

    def file(self, name: str, path: str) -> str | None:
        """The text of the file at ``path``, which the variable ``name`` names."""
        try:
            return read_text(path).strip() or None
        except (OSError, ValueError) as error:
            self.problem(name, "cannot be read", f"{shown_path(path)} ({type(error).__name__})", "a readable text file")
            return None


def read_text(path: str) -> str:
    """The text of a file. Raises ``OSError``, or ``ValueError`` for what is no text."""
    return Path(path).read_text(encoding="utf-8")


def read(environ: Mapping[str, str], config: Path | None = None, flags: Mapping[str, str] | None = None) -> Sources:
    """Read the file (``config``, else what ``RUNESTONE_CONFIG`` names), the variables and ``flags`` such as ``--port``.

    It raises nothing: what is wrong is told by :func:`~runestone.config.build.build`, with everything else that is.
    """
    reader = Reader(environ)
    named = reader.text("RUNESTONE_CONFIG")
    path = config if config is not None else None if named is None else Path(named)
    layers, warnings = [_DEFAULTS], list[str]()
    if path is not None:
        layer, problems, warnings = _file(path, "env:RUNESTONE_CONFIG" if config is None else "flag:--config", environ)
        layers.append(layer)
        reader.problems += problems
    layers.append(_environment(reader))
    if flags:
        layers.append(_flags(flags))
    keys = inbound.keys(reader)
    return Sources(
        layers=tuple(layers),
        environ=environ,
        inbound_keys=keys,
        problems=tuple(reader.problems),
        warnings=(*warnings, *_unknown(environ)),
        file=path,
    )


def with_simulated(sources: Sources, *, openai_url: str, anthropic_url: str) -> Sources:
    """``sources`` whose providers are the simulated ones at these base URLs, and no others; a real one is never contacted."""
    urls = {"openai-default": openai_url, "anthropic-default": anthropic_url}
    others = {name for layer in sources.layers for name in layer.table.get("providers", {}) if name not in urls}
    table: dict[str, Any] = {name: {"base_url": url, "api_key": Secret("sk-simulated")} for name, url in urls.items()}
    real = {f"env:{prefix}_{part}" for prefix in BUILT_IN.values() for part in ("API_KEY", "BASE_URL")}
    told = tuple(p for p in sources.problems if p.where.removesuffix("_FILE") not in real)
    layer = Layer("demo", {"providers": {**table, **dict.fromkeys(others)}})
    apart = Layer("demo", {"ledger": {"url": default_url(sources.environ, demo=True)}})  # unless somebody says where
    return evolve(sources, layers=(apart, *sources.layers, layer), problems=told, left_out=frozenset(others))


def _file(path: Path, named_by: str, environ: Mapping[str, str]) -> tuple[Layer, list[Problem], list[str]]:
    try:
        text = read_text(str(path))
    except (OSError, ValueError) as error:
        got = f"{shown_path(str(path))} ({type(error).__name__})"
        unread = Problem(where=named_by, what="cannot be read", got=got, allowed="a readable text file")
        return Layer(path.name, {}), [unread], []
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Layer(path.name, {}), [_syntax(path, text, error)], []
    found = lines(text)

    def origin(key: Key) -> str:
        line = line_of(found, key)
        return path.name if line is None else f"{path.name}:{line}"

    problems: list[Problem] = []

    def problem(key: Key, invalid: Invalid) -> None:
        problems.append(placed(origin(key), key, invalid))

    return Layer(path.name, interpolated(table, environ, problem), origin), problems, _literal_keys(path, table, origin)


def _syntax(path: Path, text: str, error: tomllib.TOMLDecodeError) -> Problem:
    position = _POSITION.search(str(error))
    line, column = (position[1], position[2]) if position and position[1] else (str(text.count("\n") + 1), "1")
    what = _POSITION.sub("", str(error)).lower()
    return Problem(where=f"{path.name}:{line}:{column}", what="is not TOML", got=what, allowed="TOML 1.0")


def _literal_keys(path: Path, table: Mapping[str, Any], origin: Any) -> list[str]:
    """A key that stands in a file that others can read."""
    if not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return []
    warnings = []
    for kind, key in (("providers", "api_key"), ("keys", "key")):
        tables = table.get(kind)
        for name, inner in tables.items() if isinstance(tables, Mapping) else ():
            if isinstance(inner, Mapping) and isinstance(inner.get(key), str) and "${" not in inner[key]:
                where = f"{origin((kind, name, key))}: {dotted((kind, name, key))}"
                warnings.append(f"{where}: a key in a file that others can read; chmod 600 it, or name the key's place")
    ledger = table.get("ledger")
    url = ledger.get("url") if isinstance(ledger, Mapping) else None
    if isinstance(url, str) and _PASSWORD.search(url) and "${" not in url:
        where = f"{origin(('ledger', 'url'))}: ledger.url"
        warnings.append(f"{where}: a password in a file that others can read; chmod 600 it, or name the URL's place")
    return warnings


def _environment(reader: Reader) -> Layer:
    table: dict[str, Any] = {}
    names: dict[Key, str] = {}
    for name, path in variables().items():
        if (text := reader.text(name)) is not None:
            _put(table, path, Secret(text) if path[-1] in ("api_key", "url") else text)
            names[path] = f"env:{name}"
    return Layer("env", table, names.get)


def _flags(flags: Mapping[str, str]) -> Layer:
    table: dict[str, Any] = {}
    names: dict[Key, str] = {}
    for flag, text in flags.items():
        _put(table, _FLAGS[flag], text)
        names[_FLAGS[flag]] = f"flag:{flag}"
    return Layer("flag", table, names.get)


def _put(table: dict[str, Any], path: Key, value: Any) -> None:
    for name in path[:-1]:
        table = table.setdefault(name, {})
    table[path[-1]] = value


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known, warnings = known_variables(), []
    for name in sorted(environ):
        if name.startswith("RUNESTONE_") and name not in known and name.removesuffix("_FILE") not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.append(f"env:{name}: no such setting{hint}")
    return warnings


def placed(origin: str, path: Key, invalid: Invalid) -> Problem:
    """What is wrong at ``path``, whose value comes from ``origin``. A variable is known by its own name."""
    what = invalid.what if origin.startswith("env:") else f"{dotted(path)}: {invalid.what}"
    return Problem(where=origin, what=what, got=invalid.got, allowed=invalid.allowed)


def dotted(path: Key) -> str:
    """A path as people write it."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part[:60]}"' for part in path)


def load(environ: Mapping[str, str], *, demo: bool = False) -> Settings:
    """The settings in ``environ`` and the file that it names. With ``demo``, no real provider is looked at.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    from runestone.config.build import build  # noqa: PLC0415 - it stands on this module

    sources = read(environ)
    if demo:
        nowhere = "http://127.0.0.1:9/v1"
        sources = with_simulated(sources, openai_url=nowhere, anthropic_url=nowhere)
    return build(sources, {}).settings


__all__ = ["ConfigurationError", "Reader", "Sources", "dotted", "load", "placed", "read", "with_simulated"]
