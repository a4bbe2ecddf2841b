"""The command: tries the boxes, tells what came of them, and leaves the node as it was."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import httpx

from runestone.api import OperationError, RemoteNode
from runestone.check.boxes import BOXES, Box, Found, tried
from runestone.check.site import Site
from runestone.check.stage import Stage, remove_leftovers
from runestone.config.run_directory import admin_socket
from runestone.telemetry.logs import masked

EX_FAILED: Final = 1
EX_USAGE: Final = 2
EX_UNTICKED: Final = 4
EX_CONFLICT: Final = 5
EX_UNREACHABLE: Final = 69
EX_DENIED: Final = 77
EX_INTERRUPTED: Final = 130
_TIDY_SECONDS: Final = 15.0
_HTTP_SECONDS: Final = 20.0


_CODES: Final = {"unreachable": EX_UNREACHABLE, "denied": EX_DENIED}


class _Refused(Exception):
    """There is nothing to try: why, and the exit code."""

    def __init__(self, message: str, code: int, reason: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


def _refusal(error: OperationError) -> _Refused:
    message = str(error) if error.reason in _CODES else f"{error.reason}: {error}"
    return _Refused(message, _CODES.get(error.reason, EX_FAILED), error.reason)


def run(arguments: argparse.Namespace) -> int:
    """Check the node in ``arguments``; the result is the exit code."""
    path = arguments.socket or admin_socket()
    try:
        chosen, key = _chosen(arguments.only), _key(arguments.key_env)
        with _alone(path):
            found = asyncio.run(_interruptible(path, chosen, key, quiet=arguments.json))
    except _Refused as error:
        message = masked(str(error))  # a key may have been typed where its variable belongs
        if arguments.json:
            print(json.dumps({"v": 1, "error": {"code": error.reason, "message": message}}))
        print(f"runestone: {message}", file=sys.stderr)
        return error.code
    except asyncio.CancelledError:
        return EX_INTERRUPTED
    if arguments.json:
        print(json.dumps({"v": 1, "boxes": [one.as_data() for one in found]}))
    else:
        print(f"\n{sum(one.ok for one in found)} of {len(found)} boxes are ticked")
    return 0 if all(one.ok for one in found) else EX_UNTICKED


def _chosen(names: Sequence[str] | None) -> list[Box]:
    return [box for box in BOXES if not names or box.name in names]


def _key(variable: str | None) -> str | None:
    key = None if variable is None else os.environ.get(variable, "").strip()
    if key == "":
        raise _Refused(f"the variable {variable} is not set", EX_USAGE, "usage")
    return key


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One check at a time: each takes away what others have left behind. The lock ends with the process, however that ends."""
    try:
        lock = os.open(f"{path}.check", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError as error:
        raise _Refused(f"{path}: {error.strerror}", EX_DENIED, "denied") from None
    except OSError:
        raise _Refused(
            f"no running node answers on {path}. Is `runestone serve` up?", EX_UNREACHABLE, "unreachable"
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _Refused("another check of this node is running; wait for its end", EX_CONFLICT, "conflict") from None
        yield
    finally:
        os.close(lock)


async def _interruptible(path: Path, chosen: Sequence[Box], key: str | None, *, quiet: bool) -> list[Found]:
    """Ctrl-C and SIGTERM cancel it once; what it has made is taken away all the same."""
    task = asyncio.ensure_future(_check(path, chosen, key, quiet=quiet))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


async def _check(path: Path, chosen: Sequence[Box], key: str | None, *, quiet: bool) -> list[Found]:
    found = []
    try:
        async with (
            RemoteNode(path) as node,
            httpx.AsyncClient(trust_env=False, timeout=_HTTP_SECONDS) as http,
        ):
            for name in await remove_leftovers(node):
                print(f"runestone: {name} was left by a check before, and is taken away", file=sys.stderr)
            stage = Stage(node)
            site = await Site.met(node, http, key, stage)
            async with _staged(stage, wanted=any(box.staged for box in chosen)) as unstaged:
                for box in chosen:
                    found.append(await tried(box, site, unstaged))
                    if not quiet:
                        print(_drawn(found[-1]), flush=True)
    except OperationError as error:
        raise _refusal(error) from None
    return found


@asynccontextmanager
async def _staged(stage: Stage, *, wanted: bool) -> AsyncIterator[str | None]:
    """The throw-away providers for the time of the block, if they are ``wanted``; else, or if there are none, why."""
    unstaged = None
    try:
        if wanted:
            try:
                await stage.set_up()
            except OperationError as error:
                if error.reason in _CODES:
                    raise
                unstaged = f"there are no throw-away providers: {error}"
        yield unstaged
    finally:
        if wanted:
            try:
                async with asyncio.timeout(_TIDY_SECONDS):
                    await stage.clear()
            except TimeoutError:
                print(
                    "runestone: the node takes long to let go of check-*; the next check takes it away", file=sys.stderr
                )


def _drawn(found: Found) -> str:
    mark = "x" if found.ok else " "
    lines = [f"[{mark}] {found.box.title} ({found.box.name}, {found.seconds:.1f} s)", f"    {found.detail}"]
    if found.command is not None:
        lines.append(f"    -> {found.command}")
    return "\n".join(lines)
