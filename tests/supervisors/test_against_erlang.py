"""The library and Erlang/OTP play the same scenarios, made up from seeds: the same things must happen, in the same order.

What differs on purpose is put right in ``tests/supervisors/erlang/play.py``, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
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


@pytest.mark.parametrize("seed", range(500))
def test_a_tree_lives_as_in_erlang(erlang: Oracle, seed: int) -> None:
    scenario = tree.Maker(seed).scenario()

    ours, theirs = blocks(run(tree.played(scenario))), blocks(erlang.play(scenario))

    assert len(ours) == len(theirs)
    for step, here, there in zip([None, *scenario[3]], ours, theirs, strict=False):  # it may have ended before its time
        order = by_process if tree.kills_a_supervisor(step) else list
        assert order(here) == order(there), step


@pytest.mark.parametrize("seed", range(300))
def test_a_dynamic_supervisor_lives_as_in_erlang(erlang: Oracle, seed: int) -> None:
    scenario = dynamic.Maker(seed).scenario()

    ours, theirs = blocks(run(tree.played(scenario))), blocks(erlang.play(scenario))

    assert len(ours) == len(theirs)
    for step, here, there in zip([None, *scenario[3]], ours, theirs, strict=False):
        assert by_process(here) == by_process(there), step


@pytest.mark.parametrize("seed", range(500))
def test_servers_live_as_in_erlang(erlang: Oracle, seed: int) -> None:
    peers, steps = servers.Maker(seed).scenario()

    ours = blocks(run(servers.played(peers, steps)))
    theirs = blocks(erlang.play(("servers", {}, peers, [step.term for step in steps])))

    for step, here, there in zip([None, *steps], ours, theirs, strict=True):
        assert by_process(here) == by_process(there), step
