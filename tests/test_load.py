"""Who may add to the load of a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from runestone.config.settings import AuthSettings, InboundKey, ServerSettings, Settings
from runestone.domain.errors import Overloaded
from runestone.load import Load
from supervisors import LoopLag


def settings(*keys: str, **server: float) -> Settings:
    named = tuple(InboundKey(key, b"") for key in keys)
    values: dict[str, object] = {"admin_socket": Path("none"), **server}
    return Settings(server=ServerSettings(**values), auth=AuthSettings(keys=named))  # type: ignore[arg-type]


def load(lag: LoopLag | None = None, chance: float = 0.5) -> Load:
    return Load(lag or LoopLag(), lambda: chance)


def test_places_are_given_back_however_the_request_ends() -> None:
    one, only = load(), settings(max_requests=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="ends"), one.place("", only):
            raise ValueError("ends badly")

    with one.place("", only), pytest.raises(Overloaded) as told:
        one.take("", only)
    assert (told.value.status, told.value.code, told.value.retry_after_seconds) == (503, "overloaded", 1.0)
    assert one.refused == 1


def test_a_newcomer_finds_a_place_beside_a_key_that_takes_all_it_can() -> None:
    shared, many = load(), settings("hog", "modest", max_requests=20)
    for _ in range(18):
        shared.take("hog", many)
    with pytest.raises(Overloaded):
        shared.take("hog", many)

    shared.take("modest", many)
    shared.take("modest", many)


def test_a_loop_that_stays_late_has_new_requests_refused_until_it_catches_up() -> None:
    lag, all_of_it = LoopLag(), settings(max_loop_lag_seconds=0.1)
    late = load(lag, chance=0.0)
    for _ in range(2):
        lag.observe(1.0)
        late.take("", all_of_it)
    lag.observe(1.0)

    with pytest.raises(Overloaded):
        late.take("", all_of_it)
    late.turned_away(3, "queue")
    assert late.shed == {"requests": 0, "lateness": 1, "connections": 0, "queue": 3}
    assert late.refused == 4
    for _ in range(60):
        lag.observe(0.0)
    late.take("", all_of_it)
    assert late.shedding == 0.0


def test_looks_that_nobody_asked_about_were_calm() -> None:
    lag, all_of_it = LoopLag(), settings(max_loop_lag_seconds=0.1)
    rested = load(lag, chance=0.0)
    for _ in range(50):
        lag.observe(1.0)

    rested.take("", all_of_it)
    assert rested.shedding == 0.0
