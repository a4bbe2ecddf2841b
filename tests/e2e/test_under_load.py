"""Load that lasts: streams held, steady questions, overload, actors that crash all the time, restarts, kills, clients that retry.

Each runs for a moment in CI, where only what is lost, told twice or left behind counts, and for minutes in the long run, where the figures
that it prints are worth something.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.load import Client, crowd, nothing_left, stream_of
from tests.e2e.node import Gateway, Upstream, gateway

QUESTION: dict[str, Any] = {"model": "openai-default/gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
STREAM = {**QUESTION, "stream": True}
ANYBODY = {**QUESTION, "model": "gpt-4o-mini"}
long = [pytest.mark.long, pytest.mark.timeout(1200)]


def lengths(brief: float, lasting: float) -> pytest.MarkDecorator:
    """How long a load lasts, in seconds."""
    there = [pytest.param(brief, id="brief"), pytest.param(lasting, id="lasting", marks=long)]
    return pytest.mark.parametrize("seconds", there)


def rounds(brief: int, lasting: int) -> pytest.MarkDecorator:
    """How often something is done."""
    there = [pytest.param(brief, id="brief"), pytest.param(lasting, id="lasting", marks=long)]
    return pytest.mark.parametrize("count", there)


@lengths(2, 300)
def test_held_streams_lose_no_byte(serve: Callable[..., Gateway], primary: Upstream, seconds: float) -> None:
    node, count = serve(), 500 if seconds > 60 else 50
    primary.fault(f"pace=0.05 tokens={count // 8}")
    client = Client(node.port, STREAM)
    asyncio.run(crowd(client, 1, 0.1))
    with nothing_left(node, patient=seconds >= 60):
        told = asyncio.run(crowd(client, count, seconds))
    print(f"{count} streams of 20 events a second: {told.figures()}; {memory(node)}")

    assert set(told.ends) == {"whole"}
    assert told.ok > count


@lengths(2, 300)
def test_steady_questions_are_all_answered(serve: Callable[..., Gateway], primary: Upstream, seconds: float) -> None:
    node, rate = serve(), 300 if seconds > 60 else 50
    primary.fault("slow_first_token=0.05")
    client = Client(node.port, QUESTION)
    with nothing_left(node, patient=seconds >= 60):
        told = asyncio.run(stream_of(client, rate, seconds))
    print(f"{rate} questions a second, 50 ms upstream: {told.figures()}; {memory(node)}")

    assert told.unanswered == {}
    assert told.ok + len(told.refused) + told.unsent == int(rate * seconds)
    assert told.ok == int(rate * seconds) or seconds > 60  # a busy machine may not carry so many


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the node gets a part of one core, its clients another one")
@lengths(2, 60)
def test_five_times_what_the_node_can_serve_is_served_or_refused_and_then_all_is_as_before(
    serve: Callable[..., Gateway], seconds: float
) -> None:
    node = serve(RUNESTONE_MAX_LOOP_LAG_MS="200")
    cores = os.sched_getaffinity(0)
    with nothing_left(node, patient=seconds >= 60), squeezed(node):
        try:
            os.sched_setaffinity(0, cores - {min(cores)})
            used = [cpu_seconds(node)]
            peak = asyncio.run(crowd(Client(node.port, QUESTION), 16, max(seconds / 10, 2.0)))
            used.append(cpu_seconds(node))
            capacity = peak.ok / peak.seconds
            told = asyncio.run(stream_of(Client(node.port, QUESTION), 5 * capacity, seconds))
            used.append(cpu_seconds(node))
            after = asyncio.run(stream_of(Client(node.port, QUESTION), capacity / 2, max(seconds / 10, 2.0)))
        finally:
            os.sched_setaffinity(0, cores)
    goodput = (told.ok / (used[2] - used[1])) / (peak.ok / (used[1] - used[0]))
    print(f"goodput by the node's own CPU time: {goodput:.0%}")  # whatever else the machine does
    print(f"capacity {peak.figures()}\nfive times as much: {told.figures()}\nhalf of it: {after.figures()}")

    assert told.unanswered == {}
    assert told.ok > capacity * seconds / 4
    assert after.unanswered == {}
    assert after.ok > 0.8 * sum(after.ends.values())


@lengths(4, 300)
def test_a_provider_actor_that_crashes_all_the_time_costs_nobody_an_answer(
    serve: Callable[..., Gateway], primary: Upstream, seconds: float
) -> None:
    node = serve("--allow-faults")
    primary.fault("pace=0.05 tokens=20")
    client = Client(node.port, STREAM)
    asyncio.run(crowd(client, 1, 0.1))

    with nothing_left(node, patient=seconds >= 60):
        crashes = asyncio.run(meanwhile(node, crowd(client, 50, seconds), ["provider:openai-default"]))
    print(f"{crashes.total()} crashes under 50 streams: {client.told.figures()}")

    assert set(client.told.ends) == {"whole"}
    assert crashes["provider:openai-default"] > 1


@lengths(6, 300)
def test_actors_that_crash_in_turn_cost_nobody_an_answer(
    serve: Callable[..., Gateway], primary: Upstream, seconds: float
) -> None:
    node = serve("--allow-faults")
    primary.fault("pace=0.05 tokens=20")
    client = Client(node.port, STREAM)
    asyncio.run(crowd(client, 1, 0.1))
    own = [f"{part}:openai-default" for part in ("provider", "transport", "prober")]
    parts = ["failover", "telemetry", "ledger", "configuration", "roster", *own, "public"]

    with nothing_left(node, patient=seconds >= 60):
        crashes = asyncio.run(meanwhile(node, crowd(client, 50, seconds), parts))
    print(f"{crashes.total()} crashes, {dict(crashes)}, under 50 streams: {client.told.figures()}; {memory(node)}")

    assert set(client.told.ends) == {"whole"}
    assert seconds < 60 or set(crashes) == set(parts)


@lengths(6, 60)
@pytest.mark.parametrize("part", ["transport:openai-default", "public"])
def test_questions_that_come_while_what_they_pass_crashes_are_all_answered(
    serve: Callable[..., Gateway], seconds: float, part: str
) -> None:
    node = serve("--allow-faults")
    client = Client(node.port, QUESTION)

    with nothing_left(node, patient=seconds >= 60):
        crashes = asyncio.run(meanwhile(node, crowd(client, 12, seconds), [part]))
    print(f"{crashes.total()} crashes of {part} under 12 clients: {client.told.figures()}")

    assert set(client.told.ends) == {"whole"}


@rounds(2, 20)
def test_restarts_under_load_cut_no_stream(tmp_path: Path, primary: Upstream, secondary: Upstream, count: int) -> None:
    primary.fault("pace=0.02 tokens=30")
    port, ends = free_port(), Counter[str]()
    expected: bytes | None = None
    for number in range(count):
        with gateway(folder(tmp_path, number), {**providers(primary, secondary), "RUNESTONE_PORT": str(port)}) as node:
            client = Client(node.port, STREAM, expected=expected)
            asyncio.run(crowd(client, 1, 0.1))
            expected = client.expected

            async def scene(node: Gateway = node, client: Client = client) -> None:
                load = asyncio.create_task(stream_of(client, 40, 1.5))
                await asyncio.sleep(1.0)
                node.process.send_signal(signal.SIGTERM)
                await load

            asyncio.run(scene())
            assert node.process.wait(30) == 0
            ends += client.told.ends
    print(f"{count} restarts under 40 streams a second: {dict(ends)}")

    assert {end for end in ends if not end.startswith("connection: ")} <= {"whole", "503 draining"}
    assert ends["whole"] >= 40 * count


@rounds(3, 50)
def test_a_node_that_was_killed_serves_again(
    tmp_path: Path, primary: Upstream, secondary: Upstream, count: int
) -> None:
    port, place = free_port(), folder(tmp_path, 0)
    environment = {**providers(primary, secondary), "RUNESTONE_PORT": str(port)}
    seconds: list[float] = []
    for _ in range(count):
        began = time.monotonic()
        with gateway(place, environment) as node:
            assert node.post(QUESTION).status_code == 200
            seconds.append(time.monotonic() - began)

            async def scene(node: Gateway = node) -> None:
                load = asyncio.create_task(crowd(Client(node.port, STREAM), 20, 0.4))
                await asyncio.sleep(0.3)
                node.process.kill()
                await load

            asyncio.run(scene())
            node.process.wait(10)
    print(
        f"{count} kills: an answer {max(seconds):.2f} s after the start at the latest, {sum(seconds) / count:.2f} s on average"
    )

    assert len(seconds) == count


@lengths(2, 120)
def test_clients_that_retry_against_a_half_broken_provider_make_no_storm(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream, seconds: float
) -> None:
    node = serve()
    primary.fault("500 50% seed=3")

    async def impatient(client: Client) -> None:
        for _ in range(3):
            if await client.ask() == "whole":
                return

    async def scene(client: Client) -> int:
        asked, began, tasks = 0, time.monotonic(), []
        while time.monotonic() - began < seconds:
            tasks.append(asyncio.create_task(impatient(client)))
            asked += 1
            await asyncio.sleep(0.02)
        await asyncio.gather(*tasks)
        return asked

    client = Client(node.port, ANYBODY, exact=False)  # either provider may answer
    asked = asyncio.run(scene(client))
    calls = primary.state()["requests"] + secondary.state()["requests"]
    print(f"{asked} questions, {sum(client.told.ends.values())} requests, {calls} calls: {dict(client.told.ends)}")

    assert calls <= 1.3 * asked + 10
    primary.fault("none")
    node.ctl("breaker", "reset", "openai-default")
    answers = [node.post(ANYBODY).headers["x-runestone-provider"] for _ in range(5)]
    assert answers == ["openai-default"] * 5


# -- what they need ----------------------------------------------------------------------------------------------------


async def meanwhile(node: Gateway, load: Any, parts: list[str]) -> Counter[str]:
    """``load``, and every two seconds a crash of the next of ``parts``."""
    task, crashes = asyncio.create_task(load), Counter[str]()
    while not task.done():
        for part in parts:
            if not task.done():
                await asyncio.to_thread(node.ctl, "crash", part, check=False)
                crashes[part] += 1
                await asyncio.wait([task], timeout=2.0)
    await task
    return crashes


@contextmanager
def squeezed(node: Gateway) -> Iterator[None]:
    """The node has a quarter of one core, so that its clients can ask for more than it can serve."""
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(node.process.pid, {core})
    for thread in Path(f"/proc/{node.process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
    spin = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    busy = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(3)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def cpu_seconds(node: Gateway) -> float:
    """What the process has used of a processor."""
    fields = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(node: Gateway) -> str:
    """Resident memory."""
    return f"{node.detailed()['memory_bytes'] / 2**20:.0f} MiB"


def folder(parent: Path, number: int) -> Path:
    """A place for a node."""
    place = parent / f"node{number}"
    place.mkdir()
    return place


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def providers(primary: Upstream, secondary: Upstream) -> dict[str, str]:
    """Where a node finds both."""
    return {
        "OPENAI_API_KEY": "sk-upstream-openai",
        "OPENAI_BASE_URL": primary.url,
        "ANTHROPIC_API_KEY": "sk-upstream-anthropic",
        "ANTHROPIC_BASE_URL": secondary.url,
        "FAILOVER_STRATEGY": "priority",
    }
