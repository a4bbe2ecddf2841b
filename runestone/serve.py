"""``runestone serve``: a process around a node. A signal or an operator drains and ends it, a watchdog bounds its end."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from loguru import logger

import runestone
from runestone import app
from runestone.config.build import build
from runestone.config.load import read
from runestone.config.settings import ConfigurationError
from runestone.configuration import ReloadNow
from runestone.gateway import Ending
from runestone.http.sockets import BindError
from runestone.providers import names
from runestone.telemetry import logs
from supervisors import StartError

EX_OK: Final = 0
EX_FAILED: Final = 1
EX_UNAVAILABLE: Final = 69
EX_SOFTWARE: Final = 70
EX_CONFIG: Final = 78
_STOP_SECONDS: Final = 10.0  # for the tree to stop, on top of the drain
#: By then everything that stays is loaded, the prices too. The collector need not look at it again: each time that would hold the loop up
#: for as long as it takes to visit a hundred thousand objects.
LOADED_SECONDS: Final = 5.0
#: New objects that the collector waits for. A request leaves it nothing, but has hundreds alive while it lasts: with Python's own 700
#: it would come every dozen requests. What connections leave, some thirty objects each, may wait for that many.
_COLLECTED_AT: Final = 5000


def run(
    *,
    demo: bool,
    allow_faults: bool,
    unsafe_eval: bool = False,
    watch: bool = False,
    config: Path | None = None,
    flags: Mapping[str, str] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the settings again. The result is the exit code."""
    if watch and importlib.util.find_spec("watchfiles") is None:
        print("runestone: --watch needs the extra: pip install 'runestone[watch]'", file=sys.stderr)
        return EX_CONFIG
    read_again = partial(read, os.environ, config, flags or {})
    try:
        sources = read_again()
        settings = build(sources, {}).settings
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    sink = logs.configure(settings.logs.level, settings.logs.format)
    gc.set_threshold(_COLLECTED_AT)
    launch = partial(
        app.launch,
        sources,
        read_again,
        demo=demo,
        allow_faults=allow_faults,
        unsafe_eval=unsafe_eval,
        watch=watch,
        sink=sink,
    )
    try:
        import uvloop  # noqa: PLC0415 - where it installs
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        return runner.run(_serve(launch))


async def _serve(launch: Callable[[], Awaitable[app.Running]]) -> int:
    ending, hurry = Ending(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def told_to_stop() -> None:
        (hurry if ending.asked.is_set() else ending.asked).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop)
    try:
        running = await launch()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    except BindError as error:
        print(f"runestone: cannot listen: {error}", file=sys.stderr)
        return EX_UNAVAILABLE
    except StartError as error:
        logger.critical("the tree does not start: {}", error)
        return EX_SOFTWARE
    node = running.node
    node.ending = ending
    loop.add_signal_handler(signal.SIGHUP, partial(node.registry.via(names.CONFIGURATION).cast, ReloadNow()))
    _announce(running)
    loop.call_later(LOADED_SECONDS, gc.freeze)
    assert node.root is not None
    ended = asyncio.ensure_future(node.root.wait())
    await asyncio.wait({ended, asyncio.ensure_future(ending.asked.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        logger.critical("the tree has given up: {}", ended.result())
        running.close()
        _watchdog(_STOP_SECONDS)
        return EX_SOFTWARE
    seconds = node.settings.server.drain_timeout_seconds if ending.seconds is None else ending.seconds
    watchdog = _watchdog(seconds + _STOP_SECONDS)
    ending.cut = await running.drain(hurry, seconds)
    ending.drained.set()
    await running.stop()
    watchdog.cancel()
    logger.info("stopped")
    return EX_OK


def _announce(running: app.Running) -> None:
    settings, where = running.node.settings, running.node.listeners
    for refusal in settings.refusals:
        logger.warning("{}: {}: {}", refusal.code, refusal.name, refusal.message)
    for warning in settings.warnings:
        logger.warning("{}", warning)
    what = (
        "simulated providers"
        if running.node.set_simulated_fault is not None
        else f"{len(settings.providers)} providers"
    )
    logger.info("runestone {} with {}", runestone.__version__, what)
    logger.info("API    {}/v1", where["public"])
    logger.info("health {}/health", where["health"])
    logger.info("admin  {}", where["admin"])
    if running.node.unsafe_eval:
        logger.warning("--unsafe-eval: whoever may open {} may run any Python in this process", where["admin"])
    if not settings.auth.keys:
        logger.info("no inbound keys are set: any Authorization, or none, is accepted from this machine")


def _watchdog(seconds: float) -> threading.Timer:
    """Ends the process from outside the loop if its end hangs."""
    timer = threading.Timer(seconds, os._exit, (EX_SOFTWARE,))
    timer.daemon = True
    timer.start()
    return timer
