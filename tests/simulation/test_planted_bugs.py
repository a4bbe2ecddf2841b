"""Every bug on the list is found by some seed: the laws see what they are there to see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.play import run
from tests.simulation.script import Profile, written

_SEEDS = 150  # the most that a bug may need; nearly all need one or two


def seeds(profile: Profile) -> Iterator[int]:
    """The first seeds whose runs are of that profile."""
    found = (seed for seed in range(100_000) if written(seed).profile == profile)
    return (next(found) for _ in range(_SEEDS))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)

    assert any(run(seed).violations for seed in seeds(bug.profile)), f"no seed of {bug.profile} has found: {bug.name}"


def test_the_list_is_long_and_names_each_bug_once() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20
