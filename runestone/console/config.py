"""``runestone config``: what the settings are, what is wrong with them, and what they may be. No node is needed."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from runestone.config import reference
from runestone.config.build import Loaded, build
from runestone.config.load import read
from runestone.config.settings import ConfigurationError, Settings
from runestone.config.worst_case import worst_case
from runestone.console import render
from runestone.telemetry.logs import masked

EX_CONFIG: Final = 78
EX_UNHEALTHY: Final = 4
EX_NOT_FOUND: Final = 3


def add_parser(subparsers: Any) -> None:
    """Add ``config`` to the program's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser("config", help="the settings: check, show, explain, init")
    commands = parser.add_subparsers(title="config commands", metavar="COMMAND", required=True)

    def add(name: str, text: str, run: Any, *, file: bool = True) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        if file:
            one.add_argument("--config", type=Path, metavar="FILE", help="a runestone.toml; else RUNESTONE_CONFIG")
        one.set_defaults(run=run)
        return one

    check = add("check", "tell all that is wrong with file and variables, at once", _check)
    check.add_argument("--online", action="store_true", help="ask each provider too, for free")
    check.add_argument("--strict", action="store_true", help="a warning is an error")
    check.add_argument("--json", action="store_true", help="one JSON object on standard output")
    show = add("show", "the settings that differ from the defaults", _show)
    show.add_argument("--effective", action="store_true", help="all of them")
    show.add_argument("--origin", action="store_true", help="where each comes from")
    show.add_argument("--json", action="store_true", help="one JSON object on standard output")
    init = add("init", "write a file with every setting, commented", _init, file=False)
    init.add_argument("path", nargs="?", type=Path, default=Path("runestone.toml"), help="runestone.toml by default")
    add("schema", "the JSON Schema of runestone.toml, for editors", _schema, file=False)
    explain = add("explain", "what one setting means", _explain, file=False)
    key = explain.add_argument("key", help="such as retry.base_delay_ms")
    key.completer = lambda **_: reference.keys()  # type: ignore[attr-defined] # the place that argcomplete has chosen
    add("env", "the variables", _env, file=False)


def _load(arguments: argparse.Namespace) -> Loaded:
    return build(read(os.environ, arguments.config), {})


def _check(arguments: argparse.Namespace) -> int:
    try:
        settings = _load(arguments).settings
    except ConfigurationError as error:
        if arguments.json:
            print(json.dumps({"v": 1, "ok": False, "problems": [str(problem) for problem in error.problems]}))
        print(error, file=sys.stderr)
        return EX_CONFIG
    online = asyncio.run(_probed(settings)) if arguments.online else {}
    ok = not (arguments.strict and settings.warnings)
    if arguments.json:
        print(json.dumps({"v": 1, "ok": ok, **_found(settings), "online": online}))
    else:
        _print_found(settings, online)
    if not ok:
        return EX_CONFIG
    return EX_UNHEALTHY if any(not found["ok"] for found in online.values()) else 0


def _found(settings: Settings) -> dict[str, Any]:
    calls, seconds = worst_case(settings)
    return {
        "providers": [p.name for p in settings.providers],
        "missing": [{"name": r.name, "reason": r.code, "message": r.message} for r in settings.refusals],
        "groups": {g.name: list(g.providers) for g in settings.groups},
        "warnings": list(settings.warnings),
        "worst_case": {"upstream_calls": calls, "seconds": seconds},
    }


def _print_found(settings: Settings, online: Mapping[str, Mapping[str, Any]]) -> None:
    found = _found(settings)
    print(
        f"ok: {len(found['providers'])} providers ({', '.join(found['providers']) or 'none'}), {len(found['groups'])} groups"
    )
    for missing in found["missing"]:
        print(f"not started: {missing['name']}: {missing['reason']}: {missing['message']}")
    for warning in found["warnings"]:
        print(f"warning: {warning}")
    worst = found["worst_case"]
    print(f"worst case for one request: {worst['upstream_calls']} upstream calls, {worst['seconds']:g} s")
    for name, probe in online.items():
        print(f"{'ok' if probe['ok'] else 'FAILED'}: {name}: {probe['message']} ({probe['seconds']:.2f} s)")


async def _probed(settings: Settings) -> dict[str, dict[str, Any]]:
    from runestone.providers.probe import probe  # noqa: PLC0415 - it needs the transport, which takes time to load
    from runestone.providers.transport import Transport  # noqa: PLC0415 - likewise

    transport = Transport(connect_timeout_seconds=settings.timeouts.connect_seconds)
    try:
        answers = await asyncio.gather(*(probe(provider, transport) for provider in settings.providers))
    finally:
        await transport.aclose()
    return {
        provider.name: {"ok": a.ok, "status": a.status, "message": a.message, "seconds": round(a.seconds, 3)}
        for provider, a in zip(settings.providers, answers, strict=True)
    }


def _show(arguments: argparse.Namespace) -> int:
    try:
        entries = _load(arguments).entries
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    rows = [{"key": e.key, "value": e.shown, "origin": e.origin} for e in entries if e.written or arguments.effective]
    if arguments.json:
        print(json.dumps({"v": 1, "settings": rows}))
    else:
        print(render.table(rows, ("key", "value", "origin") if arguments.origin else ("key", "value")))
    return 0


def _init(arguments: argparse.Namespace) -> int:
    path: Path = arguments.path
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        print(f"runestone: {path}: {error.strerror}", file=sys.stderr)
        return 1
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, so that the mode is its from the start
        file.write(reference.commented_file())
    print(f"wrote {path}; check it with: runestone config check --config {path}")
    return 0


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(reference.schema(), indent=2))
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    try:
        print(render.facts(reference.explained(arguments.key)))
    except LookupError as error:
        print(f"runestone: {masked(str(error.args[0]))}", file=sys.stderr)  # a key may have been typed in its place
        return EX_NOT_FOUND
    return 0


def _env(_: argparse.Namespace) -> int:
    print(render.table(reference.variable_rows(), ("variable", "key", "default", "meaning")))
    return 0
