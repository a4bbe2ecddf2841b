"""What a request costs the gateway across wires, beside the same wire: CPU time of its process, in one run.

    python ops/bench/wires.py [--requests N] [--tokens N] [--rounds N]

The gateway and two simulated providers are processes of their own. Each way is asked in turn, round by round, so that what disturbs the
machine disturbs all alike; the figure of a way is the median of its rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx

_CLIENTS = 16
_WARM = 50
_WAYS = {
    "OpenAI -> OpenAI": ("chat/completions", "openai-default/gpt-4o-mini"),
    "OpenAI -> Anthropic": ("chat/completions", "anthropic-default/claude-sonnet-4-5"),
    "Anthropic -> OpenAI": ("messages", "openai-default/gpt-4o-mini"),
    "Anthropic -> Anthropic": ("messages", "anthropic-default/claude-sonnet-4-5"),
}
_SAME = ("OpenAI -> OpenAI", "Anthropic -> Anthropic")


def main() -> int:
    """Measure and print. The exit code says whether it ran, never how fast."""
    parser = argparse.ArgumentParser(prog="wires", description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=20, help="of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {name: stack.enter_context(provider(name, arguments.tokens)) for name in ("openai", "anthropic")}
        process, url = stack.enter_context(gateway(folder, urls))
        print(f"CPU of the gateway per request, {arguments.tokens} tokens, median of {arguments.rounds} rounds")
        for stream in (False, True):
            _table(process, url, arguments, stream=stream)
    return 0


def _table(process: int, url: str, arguments: argparse.Namespace, *, stream: bool) -> None:
    costs: dict[str, list[float]] = {way: [] for way in _WAYS}
    for _ in range(arguments.rounds):
        for way, (path, model) in _WAYS.items():
            asyncio.run(load(f"{url}/v1/{path}", model, _WARM, stream=stream))
            before = cpu_seconds(process)
            asyncio.run(load(f"{url}/v1/{path}", model, arguments.requests, stream=stream))
            costs[way].append((cpu_seconds(process) - before) / arguments.requests * 1e6)
    medians = {way: statistics.median(values) for way, values in costs.items()}
    same = statistics.mean(medians[way] for way in _SAME)
    print("streamed" if stream else "whole")
    for way, cost in medians.items():
        print(f"  {way:24}{cost:7.0f} us  {cost / same:5.2f} x the same wire")


async def load(url: str, model: str, requests: int, *, stream: bool) -> None:
    """Ask ``requests`` times, some at once."""
    body = {
        "model": model,
        "max_tokens": 100,
        "stream": stream,
        "messages": [{"role": "user", "content": "Hello there"}],
    }
    left = iter(range(requests))

    async def ask(client: httpx.AsyncClient) -> None:
        for _ in left:
            (await client.post(url, json=body)).raise_for_status()

    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await asyncio.gather(*(ask(client) for _ in range(_CLIENTS)))


def cpu_seconds(process: int) -> float:
    """What ``process`` has taken, all of its threads, by the clock that Linux keeps of each process."""
    return time.clock_gettime(~process << 3 | 2)


@contextmanager
def provider(name: str, tokens: int) -> Iterator[str]:
    """A simulated provider; its URL."""
    command = [sys.executable, "-m", "runestone.simulated", "--port", "0", "--name", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            hello = json.loads(process.stdout.readline())
            httpx.put(f"{hello['control_url']}/_simulated/fault", content=f"tokens={tokens}", trust_env=False)
            yield hello["url"]
        finally:
            process.terminate()


@contextmanager
def gateway(
    folder: Path,
    urls: dict[str, str],
    command: Sequence[str] = ("-m", "runestone", "serve"),
    log: int | IO[bytes] = subprocess.DEVNULL,
    **environ: str,
) -> Iterator[tuple[int, str]]:
    """A gateway before ``urls``, with ``environ`` beside what it needs: its process and its URL."""
    environ = {
        **os.environ,
        **environ,
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": urls["openai"],
        "ANTHROPIC_API_KEY": "k",
        "ANTHROPIC_BASE_URL": urls["anthropic"],
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_ADMIN_SOCKET": str(folder / "admin.sock"),
    }
    with subprocess.Popen([sys.executable, *command], env=environ, stdout=subprocess.DEVNULL, stderr=log) as process:
        try:
            yield process.pid, _listening(folder / "admin.sock")
        finally:
            process.terminate()


def _listening(socket: Path) -> str:
    for _ in range(200):
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
                return str(client.get("http://node/v1/status").json()["listeners"]["public"])
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("the gateway does not listen")


if __name__ == "__main__":
    sys.exit(main())
