"""Learning in the node: a sample of the requests, worked on by an actor."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from runestone.costs import prices
from runestone.costs.estimates import Estimates, Estimator
from runestone.domain.chat import Api, ChatRequest, Usage
from supervisors import ChildSpec, Supervisor, start
from supervisors.testing import VirtualTimeLoop, crash

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


def question(*, words: int = 1000, api: Api = "chat", size: int = 0) -> ChatRequest:
    """A request that is estimated at ``words`` + 7 tokens."""
    body = {"messages": [{"role": "user", "content": "abcd" * words}]}
    return ChatRequest(request_id="r", wire="openai", api=api, model="m", stream=False, body=body, raw=b" " * size)


def used(tokens: int) -> Usage:
    return Usage(input_tokens=tokens, output_tokens=1)


def learned(estimates: Estimates, model: str = "m") -> Any:
    estimates.learn()
    return estimates.correction.by_model.get(model)


def test_the_first_request_of_a_model_is_learned_from_and_then_one_in_sixteen() -> None:
    estimates = Estimates()
    estimates.answered(question(), "m", used(2014))
    assert (learned(estimates).ratio, learned(estimates).requests) == (2.0, 1)

    for _ in range(31):
        estimates.answered(question(), "m", used(2014))
    assert learned(estimates).requests == 3


def test_samples_that_wait_are_few() -> None:
    estimates = Estimates()
    for number in range(100):
        estimates.answered(question(), f"m{number}", used(2014))
    estimates.learn()

    assert len(estimates.correction.by_model) == 8
    estimates.answered(question(), "m99", used(2014))
    assert learned(estimates, "m99") is not None


@pytest.mark.parametrize(
    ("chat", "usage"),
    [
        (question(), None),
        (question(api="embeddings"), used(2014)),
        (question(size=256 * 1024 + 1), used(2014)),
    ],
)
def test_what_is_not_counted_not_a_conversation_or_large_is_not_learned_from(
    chat: ChatRequest, usage: Usage | None
) -> None:
    estimates = Estimates()
    estimates.answered(chat, "m", usage)

    assert learned(estimates) is None


async def test_the_actor_learns_each_second_and_what_is_learned_outlives_it() -> None:
    estimates = Estimates()
    children = [ChildSpec(id="costs", start=partial(Estimator, estimates), name="costs")]
    root = await start(partial(Supervisor, children))
    try:
        estimates.answered(question(), "m", used(2014))
        assert estimates.correction.by_model == {}
        await asyncio.sleep(1.5)
        assert estimates.correction.by_model["m"].ratio == 2.0

        ref = root.process.system.registry.lookup("costs")
        assert ref is not None
        crash(ref, RuntimeError("a bug"))
        estimates.answered(question(), "other", used(1007))
        await asyncio.sleep(3.0)
        assert {name: known.ratio for name, known in estimates.correction.by_model.items()} == {"m": 2.0, "other": 1.0}
    finally:
        await root.stop()


async def test_the_prices_are_loaded_at_the_start_and_not_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[threading.Thread] = []
    monkeypatch.setattr(prices, "load", lambda: where.append(threading.current_thread()))
    root = await start(partial(Estimator, Estimates()))
    while not where:
        await asyncio.sleep(0.01)
    await root.stop()

    assert where != [threading.main_thread()]
