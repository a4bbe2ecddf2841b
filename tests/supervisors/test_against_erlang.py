"""The library and Erlang/OTP play the same scenarios, made up from seeds: the same things must happen, in the same order.

What differs is put right where these say so, and nothing else is:

* ``Play.deaf_in_erlang`` - a supervisor's request to stop reaches an actor here that does not trap exits; there it ends it.
* ``Play._exited``, and ``failed`` in ``oracle.erl`` - a process that failed to start ends when its starter knows already, or before.
* ``by_process`` - what happens at once in several processes has no order.
* ``tree.Maker`` - a child of ``brutal_kill`` is killed here with its supervisor; there it still hears of that.
* ``tree._terminated``, ``dynamic.Maker._script``, ``children`` in ``oracle.erl`` - a dynamic supervisor is Elixir's where the two differ.
* ``look`` in ``oracle.erl`` - introspection goes before what is queued here; it waits there.
* ``stop`` in ``oracle.erl`` - a stop has done its work when the process ends for that reason, also of something else.
* ``attach`` in ``oracle_server.erl`` - a link to a process that has ended may raise there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

from supervisors.testing import VirtualTimeLoop
from tests.supervisors.erlang import dynamic, servers, tree
from tests.supervisors.erlang.oracle import Oracle, needs_erlang, oracle
from tests.supervisors.erlang.play import by_process

pytestmark = needs_erlang


@pytest.fixture(scope="module")
def erlang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    with oracle(tmp_path_factory.mktemp("erlang")) as running:
        yield running


def run(playing: Coroutine[Any, Any, list[str]]) -> list[str]:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(playing)


def blocks(lines: list[str]) -> list[list[str]]:
    """The lines of each step."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line == "--":
            found.append([])
        else:
            found[-1].append(line)
    return found


def compare(steps: Sequence[Any], ours: list[str], theirs: list[str], at_once: Callable[[Any], bool]) -> None:
    """Step by step, so that the first difference is seen with the step that made it. Events ``at_once`` have no order."""
    here, there = blocks(ours), blocks(theirs)
    for step, mine, real in zip([None, *steps], here, there, strict=False):  # all may have ended before the last step
        order = by_process if at_once(step) else list
        assert order(mine) == order(real), step
    assert len(here) == len(there)


@pytest.mark.parametrize("seed", range(500))
def test_a_tree_lives_as_in_erlang(erlang: Oracle, seed: int) -> None:
    scenario = tree.Maker(seed).scenario()

    compare(scenario[3], run(tree.played(scenario)), erlang.play(scenario), tree.kills_a_supervisor)


@pytest.mark.parametrize("seed", range(300))
def test_a_dynamic_supervisor_lives_as_in_erlang(erlang: Oracle, seed: int) -> None:
    scenario = dynamic.Maker(seed).scenario()

    compare(scenario[3], run(tree.played(scenario)), erlang.play(scenario), lambda _: True)


@pytest.mark.parametrize("seed", range(500))
def test_servers_live_as_in_erlang(erlang: Oracle, seed: int) -> None:
    peers, steps = servers.Maker(seed).scenario()
    theirs = erlang.play(("servers", {}, peers, [step.term for step in steps]))

    compare(steps, run(servers.played(peers, steps)), theirs, lambda _: True)
