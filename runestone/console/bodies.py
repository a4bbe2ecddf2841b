"""From the arguments of a command to the body of its request. A key comes from a variable, a file or standard input alone."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

Values = Mapping[str, Any]
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_KEY_FROM: Final = ("key_env", "key_file", "key_stdin")


class Unusable(Exception):
    """The arguments make no request."""


def seconds(text: str) -> float:
    """Seconds above 0. Raises ``ValueError``, which argparse turns into a usage error."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def duration(text: str) -> float:
    """Seconds above 0, of a number with a unit: ``500ms``, ``60s``, ``2m``, ``1h``; without one it is seconds.

    Raises ``ValueError``, which argparse turns into a usage error.
    """
    number = text.rstrip("hms")
    return seconds(number) * _UNITS[text[len(number) :]] if text[len(number) :] in _UNITS else seconds(text)


def told(seconds: float) -> str:
    """As :func:`duration` reads it: ``24h``, ``60s``."""
    hours, rest = divmod(seconds, 3600)
    return f"{hours:g}h" if hours and not rest else f"{seconds:g}s"


def as_given(values: Values) -> dict[str, Any]:
    """The arguments under their own names; several words are one."""
    return {key: " ".join(value) if isinstance(value, list) else value for key, value in values.items()}


def at_once(_: Values) -> float:
    """The node answers as soon as it can."""
    return 0.0


def watched(values: Values) -> float:
    """The node answers after the seconds that are given."""
    return float(values.get("seconds") or values.get("idle") or 0.0)


def taken_out(values: Values) -> dict[str, Any]:
    """Whether to wait until no call is out, and for how long."""
    idle, seconds = values.get("idle"), values.get("seconds")
    if idle is None:
        if seconds is not None:
            raise Unusable("--timeout is for --wait: without it nothing is waited for")
        return {}
    limit = seconds if seconds is not None else idle or None
    return {"wait": True, **({} if limit is None else {"seconds": limit})}


def members(values: Values) -> dict[str, Any]:
    """Providers, one by one."""
    return {"providers": list(values["providers"])}


def config(values: Values) -> dict[str, Any]:
    """All of them as one ``config``."""
    _some(values)
    return {"config": {key: _number(value) for key, value in values.items()}}


def new_provider(values: Values) -> dict[str, Any]:
    """A provider's name, kind and config."""
    rest = {key: value for key, value in values.items() if key not in ("name", "kind")}
    return {"name": values["name"], "kind": values["kind"], **provider_config(rest)}


def changed_provider(values: Values) -> dict[str, Any]:
    """A provider's config, of which something is given."""
    _some(values)
    return provider_config(values)


def provider_config(values: Values) -> dict[str, Any]:
    """A provider's config, its key included."""
    options = {key: _number(value) for key, value in values.items() if key not in _KEY_FROM}
    for flag in ("circuit_breaker", "adaptive_concurrency", "telemetry"):
        if flag in options:
            options[flag] = options[flag] == "true"
    if "models" in options:
        options["models"] = _listed(options["models"])
    if (key := _key(values)) is not None:
        options["api_key"] = key
    return {"config": options}


def new_group(values: Values) -> dict[str, Any]:
    """A group's name, members and options."""
    return {"name": values["name"], **group({key: value for key, value in values.items() if key != "name"})}


def changed_group(values: Values) -> dict[str, Any]:
    """A group's members and options, of which something is given."""
    _some(values)
    return group(values)


def group(values: Values) -> dict[str, Any]:
    """A group's members, where they are given, and options."""
    options = {key: value for key, value in values.items() if key not in ("members", "weight")}
    if "weight" in values:
        options["weights"] = dict(map(_weight, values["weight"]))
    return {"options": options, **({"providers": _listed(values["members"])} if "members" in values else {})}


def request(values: Values) -> dict[str, Any]:
    """The JSON in a file."""
    path = values["request"]
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        return {"request": json.loads(text)}
    except (OSError, ValueError) as error:
        raise Unusable(f"{path}: {error}") from None


def events(values: Values) -> dict[str, Any]:
    """Which events are wanted."""
    return {key: value for key, value in values.items() if key != "follow"}


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _some(values: Values) -> None:
    if not values:
        raise Unusable("nothing to change is named; --help lists what there is")


def _number(value: Any) -> Any:
    """A time in plain milliseconds is a number."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _weight(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise Unusable(f"--weight {text}: not a share; such as openai-default=2") from None


def _key(values: Values) -> str | None:
    sources = [key for key in _KEY_FROM if key in values]
    if len(sources) > 1:
        raise Unusable("one of --key-env, --key-file and --key-stdin")
    if "key_env" in values:
        key = os.environ.get(values["key_env"], "")
        missing = f"the variable {values['key_env']} is not set"
    elif "key_file" in values:
        key, missing = _read(values["key_file"]), f"{values['key_file']} is empty"
    elif "key_stdin" in values:
        key, missing = sys.stdin.readline(), "there is no key on standard input"
    else:
        return None
    if not key.strip():
        raise Unusable(missing)
    return key.strip()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Unusable(f"{path}: {type(error).__name__}") from None
