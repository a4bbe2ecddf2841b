"""Providers that fail under many requests at once: killed, throttling, half broken, all down; and clients that leave at any moment."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.node import Upstream, eventually, upstream
from tests.e2e.rows import House, housed
from tests.support.plain import PLAIN

QUESTION: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 50,
}
PINNED = {**QUESTION, "model": "openai-default/gpt-4o-mini"}
HOSTILE = [
    "gzip_bomb",
    "endless_head",
    "endless_line",
    "comments",
    "many_headers=1000000",
    "wrong_length=1000000",
    "html",
]
PATIENT = dict.fromkeys(
    ("RUNESTONE_FIRST_TOKEN_TIMEOUT_MS", "RUNESTONE_IDLE_TIMEOUT_MS", "OPENAI_TIMEOUT", "ANTHROPIC_TIMEOUT"), "10000"
)
NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, _openai: Upstream, _anthropic: Upstream) -> Iterator[House]:
    with housed(tmp_path_factory.mktemp("storms"), _openai, _anthropic, **PATIENT) as it:
        yield it


def storm(house: House, count: int, body: dict[str, Any] = QUESTION, at_once: int = 20) -> Counter[int]:
    """The statuses of ``count`` requests."""
    return asyncio.run(_storm(f"{house.node.base_url}/chat/completions", count, body, at_once))


async def _storm(url: str, count: int, body: dict[str, Any], at_once: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    left = iter(range(count))
    async with httpx.AsyncClient(timeout=60, **PLAIN, limits=NO_LIMITS) as client:

        async def work() -> None:
            for _ in left:
                answer = await client.post(url, json=body)
                statuses[answer.status_code] += 1

        await asyncio.gather(*(work() for _ in range(at_once)))
    return statuses


def test_a_provider_that_is_killed_under_load_costs_no_client_its_answer_and_few_calls(
    tmp_path: Path, secondary: Upstream
) -> None:
    with upstream("killed") as victim, housed(tmp_path, victim, secondary, **PATIENT) as house:
        house.clean(openai="slow_first_token=0.05")

        async def load() -> Counter[int]:
            task = asyncio.create_task(_storm(f"{house.node.base_url}/chat/completions", 200, QUESTION, 20))
            while house.calls("openai") < 20:
                await asyncio.sleep(0.01)
            victim.process.kill()
            return await task

        assert asyncio.run(load()) == {200: 200}
        provider = house.admin.request("GET", "/v1/providers/openai-default")["provider"]
        assert provider["breaker"]["state"] == "open"
        assert 5 <= provider["failures"] <= 5 + 2 * 20  # what was in flight, each with its retry
        assert house.calls("anthropic") >= 150
        victim.control = house.upstreams["anthropic"].control  # nothing is there to be cleaned


def test_a_third_of_errors_reaches_no_client_and_costs_a_call_for_each(house: House) -> None:
    house.clean(openai="500 30% seed=7")

    statuses = storm(house, 200)

    assert statuses == {200: 200}
    first, second = house.calls("openai"), house.calls("anthropic")
    assert second > 0
    assert first + second == 200 + house.provider("openai")["failures"]  # each failure cost one call more


def test_a_provider_that_throttles_is_not_called_before_its_time_and_its_breaker_stays_closed(house: House) -> None:
    house.clean(openai="429 retry_after=60")

    statuses = storm(house, 100)

    assert statuses == {200: 100}
    assert house.calls("openai") <= 20  # those that were on their way when the first answer came
    before = house.calls("openai")
    assert storm(house, 50) == {200: 50}
    assert house.calls("openai") == before
    provider = house.provider("openai")
    assert (provider["breaker"]["state"], provider["breaker"]["consecutive_failures"]) == ("closed", 0)


def test_a_spent_quota_is_never_asked_again(house: House) -> None:
    house.clean(openai="402", anthropic="402")

    assert storm(house, 1) == {429: 1}
    calls = house.calls("openai") + house.calls("anthropic")
    assert calls == 2
    assert storm(house, 50, at_once=10) == {503: 50}
    assert house.calls("openai") + house.calls("anthropic") == calls


def test_when_all_are_down_clients_are_refused_with_a_time_and_nobody_is_called(house: House) -> None:
    house.clean(openai="500", anthropic="500")
    storm(house, 40)
    for wire in house.upstreams:
        assert house.provider(wire)["breaker"]["state"] == "open"
    calls = house.calls("openai") + house.calls("anthropic")

    answers = [house.client.post(f"{house.node.base_url}/chat/completions", json=QUESTION) for _ in range(50)]

    assert {answer.status_code for answer in answers} == {503}
    assert all(1 <= int(answer.headers["retry-after"]) <= 66 for answer in answers)
    assert {answer.headers["x-should-retry"] for answer in answers} == {"false"}
    assert house.calls("openai") + house.calls("anthropic") == calls


def test_clients_that_leave_at_any_moment_leave_breaker_and_score_as_they_were(house: House) -> None:
    house.clean()
    house.admin.request("POST", "/v1/providers/openai-default/restart")  # its score forgets the storms before
    assert storm(house, 5, PINNED) == {200: 5}
    before = house.provider("openai")
    numbers = random.Random(12)
    for fault in ("stall", "slow_first_token=50", "pace=0.05", "slow=0.001", "stall after=4", "comments pace=0.05"):
        house.client.put(f"{house.upstreams['openai'].control}/_simulated/fault", content=fault).raise_for_status()
        asyncio.run(_leave(f"{house.node.base_url}/chat/completions", [numbers.uniform(0, 0.2) for _ in range(40)]))
        eventually(lambda: _state(house)["open_streams"] == 0, "the upstream is closed")
    house.client.put(f"{house.upstreams['openai'].control}/_simulated/fault", content="none").raise_for_status()

    after = house.provider("openai")
    assert (after["breaker"], after["failures"]) == (before["breaker"], before["failures"])
    assert after["score"]["success"] == before["score"]["success"] == 1.0
    assert storm(house, 20, PINNED) == {200: 20}
    eventually(lambda: house.node.detailed()["in_flight"] == 0, "no request is left")


async def _leave(url: str, moments: list[float]) -> None:
    async with httpx.AsyncClient(timeout=60, **PLAIN, limits=NO_LIMITS) as client:

        async def one(moment: float, number: int) -> None:
            asked = asyncio.create_task(client.post(url, json={**PINNED, "stream": bool(number % 2)}))
            await asyncio.wait({asked}, timeout=moment)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

        await asyncio.gather(*(one(moment, number) for number, moment in enumerate(moments)))


def _state(house: House) -> dict[str, Any]:
    return dict(house.client.get(f"{house.upstreams['openai'].control}/_simulated").json())


def test_a_stream_whose_end_has_come_is_whole_though_its_provider_says_no_more(house: House) -> None:
    house.clean(
        openai="stall after=14"
    )  # before the usage and [DONE]; the idle timeout is longer than this client's patience
    house.client.timeout = 5.0

    seen = house.ask("openai-default/gpt-4o-mini", stream=True, stream_options={"include_usage": True})

    house.client.timeout = 30.0
    assert seen.ending == "200 whole"
    assert house.provider("openai")["breaker"]["consecutive_failures"] == 0


def test_hostile_answers_leave_neither_memory_nor_descriptors(house: House) -> None:
    def round_() -> None:
        for fault in HOSTILE:
            for stream in (True, False):
                house.clean(openai=fault)
                assert storm(house, 4, {**QUESTION, "stream": stream}, at_once=4) == {200: 4}

    round_()
    house.clean()
    memory, descriptors = house.node.detailed()["memory_bytes"], house.node.descriptors()
    round_()
    house.clean()
    eventually(
        lambda: house.node.descriptors() <= descriptors + 4, lambda: f"{house.node.descriptors()}, {descriptors}"
    )
    assert house.node.detailed()["memory_bytes"] - memory < 64 * 1024 * 1024
