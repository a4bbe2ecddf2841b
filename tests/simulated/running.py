"""A simulated provider in a loop and thread of its own, so that clients of every kind can call it as they call a real one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx
import openai
import uvloop
from attrs import define, field

from runestone.simulated.server import SimulatedProvider
from tests.support.plain import PLAIN

QUESTION: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
BODY: dict[str, Any] = {"model": "m", "messages": QUESTION, "max_tokens": 100}
PATHS = {"openai": "/chat/completions", "anthropic": "/messages"}


def eventually(check: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until ``check`` is true."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "never"
        time.sleep(0.005)


@define(eq=False)
class Running:
    """The provider, and clients for it."""

    provider: SimulatedProvider
    loop: asyncio.AbstractEventLoop
    complaints: list[dict[str, Any]] = field(factory=list)
    clients: ExitStack = field(factory=ExitStack)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do ``work`` in the provider's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def fault(self, spec: str) -> None:
        """Switch the fault."""
        self.run(self.provider.set_fault(spec))

    def state(self) -> dict[str, Any]:
        """What the provider has seen."""
        return self.provider.state()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the API."""
        parts = urlsplit(self.provider.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    def openai(self, timeout: float = 10.0) -> openai.OpenAI:
        """The official SDK."""
        url, key = self.provider.url, "sk-secret-of-the-test"
        return self.clients.enter_context(openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=timeout))

    def anthropic(self, timeout: float = 10.0) -> anthropic.Anthropic:
        """The other official SDK."""
        url, key = self.provider.url.removesuffix("/v1"), "sk-secret-of-the-test"
        return self.clients.enter_context(
            anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=timeout)
        )

    def post(self, wire: str = "openai", **more: Any) -> httpx.Response:
        """One request, with all that came of the answer."""
        return httpx.post(f"{self.provider.url}{PATHS[wire]}", json={**BODY, **more}, **PLAIN, timeout=10)

    @contextmanager
    def stream(self, wire: str = "openai", timeout: float = 10.0) -> Iterator[httpx.Response]:
        """A stream whose head has come."""
        with (
            httpx.Client(**PLAIN, timeout=timeout) as client,
            client.stream("POST", f"{self.provider.url}{PATHS[wire]}", json={**BODY, "stream": True}) as response,
        ):
            yield response


@contextmanager
def running(*, name: str = "sim", loop: str = "asyncio", seed: int = 0) -> Iterator[Running]:
    """A provider for the time of the block. It must leave nothing behind, and must not complain to its loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        provider = SimulatedProvider(name=name, seed=seed)
        it = Running(provider, runner.get_loop())
        it.loop.set_exception_handler(lambda _, context: it.complaints.append(context))
        runner.run(provider.start())
        thread = threading.Thread(target=it.loop.run_forever)
        thread.start()
        try:
            yield it
        finally:
            it.clients.close()
            it.run(provider.close())
            left = it.run(_left())
            it.loop.call_soon_threadsafe(it.loop.stop)
            thread.join()
        assert not left, left
        assert not it.complaints, it.complaints
        assert it.state()["open_streams"] == it.state()["open_connections"] == 0


async def _left() -> list[str]:
    await asyncio.sleep(0)
    return [repr(task) for task in asyncio.all_tasks() - {asyncio.current_task()}]
