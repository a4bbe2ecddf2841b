"""What goes wrong at a provider while another can stand in: the client sees one clean answer, or the caller's own error at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.node import Upstream
from tests.e2e.rows import MODELS, WIRES, House, Wire, housed

REPLACED = {
    # the fault, and how often the first provider is called before the other one is
    "refused": 0,
    "reset": 2,
    "cut": 2,
    "stall": 1,
    "stall at=100": 1,
    "cut at=100": 1,
    "slow=0.02": 1,
    "slow_first_token=9": 1,
    "500": 2,
    "503 retry_after=5": 1,  # a wait that is longer than a second is worse than the other provider
    "529": 2,
    "408": 1,
    "429": 1,
    "429 retry_after=5": 1,
    "401": 1,
    "402": 1,
    "403": 1,
    "error_event": 2,
    "html": 1,
    "html=502": 2,
    "garbage": 1,
    "empty": 1,
    "redirect": 1,
    "gzip_bomb": 1,
    "endless_head": 1,
    "endless_line": 1,
    "comments": 1,
    "many_headers=100000": 1,
}
TOLD = {
    "400": {"openai": "400 invalid_request", "anthropic": "400 invalid_request_error"},
    "404": {"openai": "404 model_not_found", "anthropic": "404 not_found_error"},
    "413": {"openai": "413 request_too_large", "anthropic": "413 request_too_large"},
    "422": {"openai": "422 server_error", "anthropic": "422 api_error"},
}
BEGUN = {
    "cut after=6": {"openai": "200 then upstream_truncated", "anthropic": "200 then api_error"},
    "stall after=6": {"openai": "200 then upstream_stalled", "anthropic": "200 then timeout_error"},
    "invalid_json after=6": {"openai": "200 then upstream_invalid_answer", "anthropic": "200 then api_error"},
}
OTHER: dict[Wire, Wire] = {"openai": "anthropic", "anthropic": "openai"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, _openai: Upstream, _anthropic: Upstream) -> Iterator[House]:
    with housed(tmp_path_factory.mktemp("stand-in"), _openai, _anthropic) as it:
        yield it


@pytest.mark.parametrize("first", WIRES)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(("fault", "calls"), list(REPLACED.items()))
def test_the_other_provider_gives_one_clean_answer(
    house: House, fault: str, calls: int, stream: bool, first: Wire
) -> None:
    other = OTHER[first]
    house.clean(**{first: fault})

    seen = house.ask(MODELS[first], client=first, stream=stream)

    assert seen.ending == "200 whole"
    assert seen.text.startswith(f"{other}:")
    assert seen.headers["x-runestone-provider"] == f"{other}-default"
    assert (house.calls(first), house.calls(other)) == (calls, 1)
    assert int(seen.headers["x-runestone-attempts"]) == (2 if fault == "refused" else calls) + 1
    assert house.provider(other)["breaker"]["consecutive_failures"] == 0


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", list(TOLD))
def test_the_callers_own_error_is_told_at_once(house: House, fault: str, wire: Wire) -> None:
    house.clean(**{wire: fault})

    assert house.ask(MODELS[wire], client=wire).ending == TOLD[fault][wire]

    assert (house.calls(wire), house.calls(OTHER[wire])) == (1, 0)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", list(BEGUN))
def test_an_answer_that_has_begun_is_never_begun_again(house: House, fault: str, wire: Wire) -> None:
    house.clean(**{wire: fault})

    assert house.ask(MODELS[wire], client=wire, stream=True).ending == BEGUN[fault][wire]

    assert (house.calls(wire), house.calls(OTHER[wire])) == (1, 0)


@pytest.mark.parametrize("fault", ["cut", "500", "stall", "error_event", "gzip_bomb"])
def test_when_both_fail_there_are_no_more_than_four_calls_and_the_last_failure_is_told(
    house: House, fault: str
) -> None:
    house.clean(openai=fault, anthropic=fault)

    seen = house.ask(MODELS["openai"])

    calls = house.calls("openai") + house.calls("anthropic")
    assert seen.status in (500, 502, 504)
    assert len(seen.told) == 1
    assert calls == int(seen.headers.get("x-runestone-attempts", calls))
    assert 2 <= calls <= 4
