"""Load from outside: clients over raw sockets that check every byte, at a fixed rate or as many as there are workers.

A client here costs a tenth of what a client library does, so that the node is what is measured and not its clients.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from attrs import define, field

from tests.e2e.node import Gateway, eventually

_SECONDS = 60.0  # for one request, at most
_MOST_OUT = (
    4000  # at once: fewer than this process has descriptors or ports for, and than it answers for within that time
)


@define
class Told:
    """What became of the requests: how many ended how, and the latencies of those that were served and of those that were refused."""

    ends: Counter[str] = field(factory=Counter)
    served: list[float] = field(factory=list)
    refused: list[float] = field(factory=list)
    seconds: float = 0.0
    unsent: int = 0  # by clients that themselves had no processor to send with: they say nothing of the node

    @property
    def ok(self) -> int:
        """Whole answers."""
        return self.ends["whole"]

    @property
    def unanswered(self) -> dict[str, int]:
        """Those that got neither a whole answer nor a refusal that says so."""
        return {end: n for end, n in self.ends.items() if end != "whole" and not end.startswith("503 ")}

    def figures(self) -> str:
        """One line of numbers."""
        rate = self.ok / self.seconds if self.seconds else math.nan
        served = f"p50 {quantile(self.served, 0.5):.3f} s, p99 {quantile(self.served, 0.99):.3f} s"
        refused = f"; refusals p50 {quantile(self.refused, 0.5):.3f} s, p99 {quantile(self.refused, 0.99):.3f} s"
        unsent = f"; {self.unsent} not sent, their clients were late themselves"
        told = f"{dict(self.ends)}; {rate:.0f} whole answers a second, {served}"
        return f"{told}{refused if self.refused else ''}{unsent if self.unsent else ''}"


def quantile(values: Sequence[float], part: float) -> float:
    """The ``part`` quantile of ``values``."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else math.nan


@define
class Client:
    """Asks one node for one thing. ``expected``: the body of a whole answer, to the byte; learned from the first one, if it is ``exact``."""

    port: int
    body: Mapping[str, Any]
    told: Told = field(factory=Told)
    expected: bytes | None = None
    exact: bool = True

    async def ask(self, due: float | None = None) -> str:
        """One request over a connection of its own. Latency counts from ``due``, the moment at which it should have been sent."""
        started = time.perf_counter() if due is None else due
        received = bytearray()
        try:
            async with asyncio.timeout(_SECONDS):
                await self._exchange(received)
        except TimeoutError:
            end = "hung"
        except OSError as error:
            end = f"{'cut' if received else 'connection'}: {type(error).__name__}"
        else:
            end = self._end(bytes(received))
        self.told.ends[end] += 1
        if end == "whole":
            self.told.served.append(time.perf_counter() - started)
        elif end.startswith("503 "):
            self.told.refused.append(time.perf_counter() - started)
        return end

    async def _exchange(self, received: bytearray) -> None:
        question = json.dumps(self.body).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"{head}\r\ncontent-length: {len(question)}\r\n\r\n".encode() + question)
            while data := await reader.read(65536):
                received += data
        finally:
            writer.transport.abort()

    def _end(self, received: bytes) -> str:
        head, _, rest = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):
            return "no answer"
        status = head[9:12].decode()
        body = dechunked(rest) if b"transfer-encoding: chunked" in head.lower() else rest
        if status != "200":
            return f"{status} {json.loads(body)['error']['code']}"
        if b'"error"' in body:
            return "told in-band"
        if self.expected is None and (not self.body.get("stream") or body.endswith(b"data: [DONE]\n\n")):
            self.expected = body
        if body == self.expected or not self.exact:
            return "whole"
        return "cut" if (self.expected or b"").startswith(body) else "other bytes"


def dechunked(data: bytes) -> bytes:
    """The body in chunks ``data``, as far as it has come."""
    out = bytearray()
    while data:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            break
        out += data[:size]
        data = data[size + 2 :]
    return bytes(out)


async def crowd(client: Client, count: int, seconds: float) -> Told:
    """``count`` workers that ask again and again for ``seconds``."""
    began = time.perf_counter()

    async def work() -> None:
        while time.perf_counter() - began < seconds:
            await client.ask()

    await asyncio.gather(*(work() for _ in range(count)))
    client.told.seconds = time.perf_counter() - began
    return client.told


async def stream_of(client: Client, rate: float, seconds: float) -> Told:
    """``rate`` requests a second for ``seconds``, whatever becomes of those before."""
    began = time.perf_counter()
    tasks = set[asyncio.Task[str]]()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        if len(tasks) >= _MOST_OUT:
            client.told.unsent += 1
            await asyncio.sleep(0)
            continue
        task = asyncio.create_task(client.ask(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.wait(tasks)
    client.told.seconds = time.perf_counter() - began
    return client.told


def state(node: Gateway) -> dict[str, int]:
    """What must be the same before and after a load."""
    data = node.detailed()
    return {"tasks": data["tasks"], "in flight": data["in_flight"], "descriptors": node.descriptors()}


@contextmanager
def nothing_left(node: Gateway, *, patient: bool) -> Iterator[None]:
    """After the block nothing is in flight and the tasks are those of before; after ``patient`` waiting the connections too.

    Those to providers are kept for a while, and a few tasks belong to them.
    """
    before = state(node)
    yield

    def settled() -> bool:
        after = state(node)
        return all(after[what] <= before[what] + 4 for what in before if patient or what != "descriptors")

    with suppress(AssertionError):
        eventually(settled, "it is as before", 90)
    after = state(node)
    assert settled(), (before, after)
