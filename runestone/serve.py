"""``runestone serve``: a process around a node. Signals drain it, a watchdog bounds its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import Final

from loguru import logger

import runestone
from runestone import app
from runestone.config import demo as demo_settings
from runestone.config.load import load
from runestone.config.settings import ConfigurationError, Settings
from runestone.http.sockets import BindError
from runestone.simulated.actor import Simulation
from runestone.state import Sockets
from runestone.telemetry import logs
from supervisors import StartError

EX_OK: Final = 0
EX_FAILED: Final = 1
EX_UNAVAILABLE: Final = 69
EX_SOFTWARE: Final = 70
EX_CONFIG: Final = 78
_STOP_SECONDS: Final = 10.0  # for the tree to stop, on top of the drain


def run(*, demo: bool, allow_faults: bool) -> int:
    """Serve until SIGTERM or SIGINT; the result is the exit code."""
    try:
        settings = load(os.environ, demo=demo)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    logs.configure(settings.logs.level, settings.logs.format)
    try:
        import uvloop  # noqa: PLC0415 - where it installs
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        return runner.run(_serve(settings, demo=demo, allow_faults=allow_faults))


async def _serve(settings: Settings, *, demo: bool, allow_faults: bool) -> int:
    stopping, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def told_to_stop() -> None:
        (hurry if stopping.is_set() else stopping).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop)
    simulation = Simulation() if demo else None
    if simulation is not None:
        await simulation.bind()
        settings = demo_settings.demo(settings, simulation.openai_url, simulation.anthropic_url)
    try:
        sockets = app.bind(settings)
    except BindError as error:
        print(f"runestone: cannot listen: {error}", file=sys.stderr)
        return EX_UNAVAILABLE
    try:
        running = await app.compose(settings, sockets, simulation, allow_faults=allow_faults or demo).start()
    except StartError as error:
        logger.critical("the tree does not start: {}", error)
        sockets.close()
        return EX_SOFTWARE
    _announce(settings, sockets, demo=demo)
    assert running.node.root is not None
    ended = asyncio.ensure_future(running.node.root.wait())
    await asyncio.wait({ended, asyncio.ensure_future(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        logger.critical("the tree has given up: {}", ended.result())
        sockets.close()
        _watchdog(_STOP_SECONDS)
        return EX_SOFTWARE
    watchdog = _watchdog(settings.server.drain_timeout_seconds + _STOP_SECONDS)
    await running.drain(hurry)
    await running.stop()
    watchdog.cancel()
    logger.info("stopped")
    return EX_OK


def _announce(settings: Settings, sockets: Sockets, *, demo: bool) -> None:
    for refusal in settings.refusals:
        logger.warning("{}: {}: {}", refusal.code, refusal.name, refusal.message)
    for warning in settings.warnings:
        logger.warning("{}", warning)
    where = sockets.addresses()
    what = "simulated providers" if demo else f"{len(settings.providers)} providers"
    logger.info("runestone {} with {}", runestone.__version__, what)
    logger.info("API    {}/v1", where["public"])
    logger.info("health {}/health", where["health"])
    logger.info("admin  {}", where["admin"])
    if not settings.auth.keys:
        logger.info("no inbound keys are set: any Authorization, or none, is accepted from this machine")


def _watchdog(seconds: float) -> threading.Timer:
    """Ends the process from outside the loop if its end hangs."""
    timer = threading.Timer(seconds, os._exit, (EX_SOFTWARE,))
    timer.daemon = True
    timer.start()
    return timer
