"""``python -m runestone.simulated``: one simulated provider in a process of its own, until SIGTERM or the end of its input.

The first line that it prints is a JSON object with ``url``, ``control_url`` and ``pid``. The end of the input counts only if it is a
pipe: whoever started the provider has gone then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from runestone.domain import faults
from runestone.simulated.server import SimulatedProvider

_INPUT: Final = 0


async def main(arguments: argparse.Namespace) -> None:
    """Serve, and say where."""
    provider = SimulatedProvider(name=arguments.name)
    await provider.start(port=arguments.port)
    await provider.set_fault(arguments.fault)
    print(json.dumps({"url": provider.url, "control_url": provider.control_url, "pid": os.getpid()}), flush=True)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with _noticed(loop, stop):
        await stop.wait()
    await provider.close()


@contextmanager
def _noticed(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Iterator[None]:
    """The end of a pipe at the input sets ``stop``."""

    def read() -> None:
        if not os.read(_INPUT, 65536):
            stop.set()

    try:
        piped = stat.S_ISFIFO(os.fstat(_INPUT).st_mode)
    except OSError:  # there is no input
        piped = False
    if piped:
        loop.add_reader(_INPUT, read)
    yield
    if piped:
        loop.remove_reader(_INPUT)


def parsed() -> argparse.Namespace:
    """The command line; what is no fault ends the program with what is one."""
    parser = argparse.ArgumentParser(prog="python -m runestone.simulated", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--name", default="simulated")
    parser.add_argument("--fault", default="none")
    arguments = parser.parse_args()
    try:
        faults.parse(arguments.fault)
    except faults.UnknownFault as error:
        parser.error(str(error))
    return arguments


if __name__ == "__main__":
    asyncio.run(main(parsed()))
