"""``python -m runestone.simulated``: one simulated provider in a process of its own, until SIGTERM or the end of its input."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal

from runestone.simulated.server import SimulatedProvider


async def main() -> None:
    """Serve, and say where."""
    parser = argparse.ArgumentParser(prog="python -m runestone.simulated", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--name", default="simulated")
    parser.add_argument("--fault", default="none")
    arguments = parser.parse_args()
    provider = SimulatedProvider(name=arguments.name)
    await provider.start(port=arguments.port)
    await provider.set_fault(arguments.fault)
    print(json.dumps({"url": provider.url, "control_url": provider.control_url, "pid": os.getpid()}), flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await provider.close()


asyncio.run(main())
