"""Seeds of the simulation: in each run the whole tree is played on virtual time, and no law may be broken.

A law that is broken is shown with its seed; ``python -m tests.simulation --seed N`` plays the same again and prints everything that
happens. ``tests/simulation/ledger.py`` and ``laws.py`` are the laws.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.play import run
from tests.simulation.script import PROFILES, written

_BATCH = 50
_LONG = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("first", "count"),
    [
        *(pytest.param(first, _BATCH, id=f"seeds from {first}") for first in range(0, 500, _BATCH)),
        *(pytest.param(first, 1000, id=f"a thousand from {first}", marks=_LONG) for first in range(500, 10_500, 1000)),
    ],
)
def test_no_seed_breaks_a_law(first: int, count: int) -> None:
    broken = [str(played) for seed in range(first, first + count) if (played := run(seed)).violations]

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("seed", [1004, 5501, 8863, 9582, 9848, 10_297])
def test_a_seed_that_once_broke_a_law_breaks_none(seed: int) -> None:
    assert not run(seed).violations


@pytest.mark.parametrize("seed", range(6))
def test_the_same_seed_is_the_same_history_to_the_last_turn(seed: int) -> None:
    assert run(seed).history == run(seed).history


def test_the_same_seed_is_the_same_history_in_another_process_whose_hashes_differ() -> None:
    def history(hashes: int) -> str:
        command = [sys.executable, "-m", "tests.simulation", "--seed", "2"]
        environment = {**os.environ, "PYTHONHASHSEED": str(hashes)}
        root = Path(__file__).parents[2]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=True).stdout

    assert "question 1" in (first := history(1))
    assert history(2) == first


def test_another_seed_is_another_history() -> None:
    assert len({run(seed).history for seed in range(10)}) == 10


def test_the_seeds_of_the_quick_run_hold_every_profile_and_every_kind_of_disturbance() -> None:
    scripts = [written(seed) for seed in range(500)]

    assert {script.profile for script in scripts} == set(PROFILES)
    assert min(Counter(each.what for script in scripts for each in script.disturbances).values()) > 5


def test_the_seeds_of_the_quick_run_see_what_they_are_there_for() -> None:
    """A run in which nothing goes wrong proves little: retries, failovers, breakers that open, and clients that leave, all occur."""
    seen = "\n".join(line for seed in range(100) for line in run(seed).history)

    for sign in (
        "was ok",
        "was cancelled",
        "was rate_limited",
        "was idle_timeout",
        "was first_token_timeout",
        "was truncated",
        "was credentials",
        "breaker closed -> open",
        "breaker half_open -> open",
        "breaker half_open -> closed",
        "the budget of retries is spent",
        "deadline has passed",
        "takes requests now",
        "saturated",
        ": leaves",
    ):
        assert sign in seen, sign
