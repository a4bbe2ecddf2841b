"""Simulated providers as a process of their own, and as an actor of the tree."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from runestone.simulated.actor import Simulation
from supervisors import ActorRef, ChildSpec, Supervisor, start
from tests.support.plain import PLAIN

COMMAND = [sys.executable, "-m", "runestone.simulated"]


@contextmanager
def process(*arguments: str, stdin: int = subprocess.PIPE) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            assert started.stdout is not None
            yield started, json.loads(started.stdout.readline())
        finally:
            started.kill()


def test_a_process_says_where_it_listens_and_serves_until_it_is_told_to_stop() -> None:
    with process("--name", "a", "--fault", "status=503 times=1") as (started, hello):
        assert hello["pid"] == started.pid
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        statuses = [httpx.post(f"{hello['url']}/chat/completions", json=body, **PLAIN).status_code for _ in "ab"]
        assert statuses == [503, 200]
        assert httpx.get(f"{hello['control_url']}/_simulated", **PLAIN).json()["name"] == "a"

        started.send_signal(signal.SIGTERM)

        assert started.wait(10) == 0
        assert started.stderr is not None
        assert started.stderr.read() == ""


def test_a_process_ends_with_whoever_started_it() -> None:
    with process() as (started, _):
        assert started.stdin is not None
        started.stdin.write("what is written to it means nothing\n")
        started.stdin.close()
        assert started.wait(10) == 0


def test_a_process_without_input_serves_on() -> None:
    with process(stdin=subprocess.DEVNULL) as (started, hello):
        assert httpx.get(f"{hello['url']}/models", **PLAIN).status_code == 200
        assert started.poll() is None


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--fault", "unheard"], "not a fault"), (["--port", "x"], "invalid int")]
)
def test_a_process_that_is_told_nonsense_says_so_and_does_not_start(arguments: list[str], said: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_actor_closes_both_when_the_tree_stops() -> None:
    async def scene() -> None:
        simulation = Simulation()
        await simulation.bind()
        urls = simulation.openai_url, simulation.anthropic_url
        assert len(set(urls)) == 2
        state = await simulation.set_fault("openai-default", "status=503")
        assert (state["name"], state["fault"]) == ("openai-default", "status=503")
        with pytest.raises(KeyError):
            await simulation.set_fault("unheard", "none")
        with pytest.raises(ValueError, match="not a fault"):
            await simulation.set_fault("openai-default", "unheard")

        spec = ChildSpec(id="simulated", start=simulation.actor, name="simulated")
        tree = await start(partial(Supervisor, [spec]))
        async with httpx.AsyncClient(**PLAIN) as client:
            for url in urls:
                assert (await client.get(f"{url}/models")).status_code == 200
            await tree.stop()
            for url in urls:
                with pytest.raises(httpx.TransportError):
                    await client.get(f"{url}/models")

    anyio.run(scene)


def test_after_a_restart_of_the_actor_both_are_where_they_were_and_as_they_were() -> None:
    async def scene() -> None:
        simulation = Simulation()
        await simulation.bind()
        await simulation.set_fault("openai-default", "status=503")
        await simulation.set_fault("anthropic-default", "refused")
        urls = simulation.openai_url, simulation.anthropic_url
        spec = ChildSpec(id="simulated", start=simulation.actor, name="simulated")
        tree = await start(partial(Supervisor, [spec]))

        assert isinstance(await tree.restart_child("simulated", stop=True), ActorRef)

        assert (simulation.openai_url, simulation.anthropic_url) == urls
        async with httpx.AsyncClient(**PLAIN) as client:
            asked = client.post(f"{urls[0]}/chat/completions", json={"model": "m", "messages": []})
            assert (await asked).status_code == 503
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{urls[1]}/models")
            await simulation.set_fault("anthropic-default", "none")
            assert (await client.get(f"{urls[1]}/models")).status_code == 200
        await tree.stop()

    anyio.run(scene)
