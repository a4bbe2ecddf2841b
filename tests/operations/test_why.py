"""Why a provider is as it is, told of a real actor on virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from attrs import evolve

from runestone.operations import recording
from runestone.operations.errors import OperationError
from runestone.operations.recording import Kept
from runestone.operations.what_if import changes_of, compared
from runestone.operations.why import Standing, explained
from runestone.providers import names
from runestone.providers.provider import ResetBreaker, TripBreaker
from runestone.resilience.breaker import BreakerPolicy
from runestone.resilience.history import History
from runestone.telemetry.events import AdminActed
from runestone.telemetry.recorder import Recorded
from supervisors.testing import VirtualTimeLoop, settle
from tests.support.fleet import Fleet, fleet, provider, release

pytestmark = pytest.mark.anyio
SLOW = BreakerPolicy(
    failure_threshold=3, recovery_timeout_seconds=10.0, jitter=0.0, window_calls=5, slow_first_token_seconds=1.0
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


def epoch(node: Fleet) -> float:
    """What the actor has taken for the clock on the wall of late."""
    return node.memories["a"].history.chunks()[-1].start.epoch


def why(node: Fleet, *acted: Recorded, last: int = 5) -> dict[str, Any]:
    now = asyncio.get_running_loop().time()
    told = explained(Standing.of(node.memories["a"], now=now, wall=epoch(node) + now, acted=acted), last)
    assert told["history"]["exact"]
    return told


async def tell(node: Fleet, message: Any) -> None:
    await node.registry.via(names.provider("a")).call(message)


# -- the breaker -----------------------------------------------------------------------------------------------------------


async def test_a_closed_one_says_how_far_it_is_from_opening() -> None:
    async with fleet(provider("a")) as node:
        await node.succeeds()
        await node.fails("timeout", "refused")

        told = why(node)["breaker"]

        assert (told["state"], told["because"], told["turns"]) == ("closed", None, [])
        assert (told["consecutive_failures"], told["failure_threshold"]) == (2, 3)


async def test_an_open_one_names_each_failure_that_opened_it_and_when_it_is_tried() -> None:
    async with fleet(provider("a")) as node:
        await node.succeeds()
        for kind in ("timeout", "refused", "server_error"):
            await asyncio.sleep(1)
            await node.fails(kind)
        await asyncio.sleep(4)

        told = why(node)["breaker"]

        assert (told["state"], told["because"]["words"]) == ("open", "3 failures in a row")
        assert [step["what"] for step in told["because"]["steps"]] == ["timeout", "refused", "server_error"]
        assert told["tried_again"]["seconds"] == pytest.approx(6.0, abs=0.01)
        assert told["since"] == told["because"]["at"] == told["because"]["steps"][-1]["at"]


async def test_slow_first_tokens_are_named_as_what_opened_it() -> None:
    async with fleet(provider("a", breaker=SLOW)) as node:
        for _ in range(5):
            lease = await node.lease()
            lease.first_content(2.0)
            release(lease)
            await settle()

        told = why(node)["breaker"]

        assert told["because"]["words"] == "5 of 5 calls within 30 s had a first token after more than 1 s"
        assert [step["slow"] for step in told["because"]["steps"]] == [True] * 5


async def test_half_open_it_says_what_had_opened_it_and_how_its_probes_went() -> None:
    async with fleet(provider("a")) as node:
        await node.fails("timeout", "timeout", "timeout")
        await asyncio.sleep(12)
        assert why(node)["breaker"]["state"] == "half_open"
        given_back, good, out = [await node.lease() for _ in range(3)]
        given_back.release("neutral")
        good.first_content(0.1)
        await settle()

        told = why(node)["breaker"]

        assert [probe["outcome"] for probe in told["probes"]] == ["given back", "good", "out"]
        assert told["because"]["cause"] == "failures_in_a_row"
        assert [turn["after"] for turn in told["turns"]] == ["open", "half_open"]
        release(out)
        release(good)
        await settle()
        assert why(node)["breaker"]["turns"][-1]["words"] == "2 good probes"


async def test_a_bad_probe_is_told_with_its_failure() -> None:
    async with fleet(provider("a")) as node:
        await node.fails("timeout", "timeout", "timeout")
        await asyncio.sleep(12)
        await node.fails("tls")

        told = why(node)["breaker"]

        assert (told["turns"][-1]["cause"], told["turns"][-1]["steps"][0]["what"]) == ("probe_failed", "tls")
        assert told["probes"][-1]["outcome"] == "tls"
        assert told["because"]["cause"] == "failures_in_a_row"  # what began it


async def test_what_an_operator_has_done_is_told_with_who_says_so() -> None:
    async with fleet(provider("a")) as node:
        await tell(node, TripBreaker(5.0))
        at = epoch(node) + asyncio.get_running_loop().time()
        acted = [
            Recorded(1, at - 9.0, AdminActed(who="early", action="POST /v1/breakers/a/trip", outcome="ok", route="POST /v1/breakers/{name}/trip")),
            Recorded(2, at, AdminActed(who="other", action="POST /v1/breakers/b/trip", outcome="ok", route="POST /v1/breakers/{name}/trip")),
            Recorded(3, at, AdminActed(who="failed", action="POST /v1/breakers/a/trip", outcome="refused", route="POST /v1/breakers/{name}/trip")),
            Recorded(4, at, AdminActed(who="me@here", action="POST /v1/breakers/a/trip", outcome="ok", route="POST /v1/breakers/{name}/trip")),
        ]  # fmt: skip

        told = why(node, *acted)["breaker"]

        assert (told["state"], told["mode"], told["tried_again"]["seconds"]) == ("open", "forced_open", 5.0)
        assert (told["because"]["words"], told["because"]["who"]) == ("an operator has forced it open", "me@here")
        assert why(node)["breaker"]["because"]["who"] is None
        await tell(node, ResetBreaker())
        assert why(node, *acted)["breaker"]["turns"][-1]["who"] is None


async def test_a_crash_loses_nothing_of_it_and_a_second_one_is_told() -> None:
    async with fleet(provider("a")) as node:
        await node.fails("timeout", "timeout", "timeout")
        await node.crash()
        assert why(node)["breaker"]["because"]["words"] == "3 failures in a row"

        await node.crash()

        told = why(node)["breaker"]
        assert (told["state"], told["turns"][-1]["cause"]) == ("closed", "forgotten")
        assert "crashed twice" in told["turns"][-1]["words"]


async def test_leases_from_before_the_kept_steps_are_what_they_were() -> None:
    async with fleet(provider("a")) as node:
        node.memories["a"].history = History(size=1)
        await node.fails("timeout", "timeout", "timeout")
        await asyncio.sleep(12)
        probe = await node.lease()
        for _ in range(20):
            await node.crash()
            await asyncio.sleep(6)

        release(probe, None)
        await settle()
        await node.succeeds()

        assert why(node)["breaker"]["state"] == "closed"


# -- the score, and the rest -----------------------------------------------------------------------------------------------


async def test_the_steps_that_moved_the_score_most_are_told_and_what_holds_it_down() -> None:
    async with fleet(provider("a")) as node:
        await node.succeeds(3)
        await node.fails("server_error")

        told = why(node)["score"]

        assert told["most_by"] == "success"
        assert told["held_down_by"] == ["success"]
        (moved,) = told["moved_by"]
        assert (moved["what"], moved["score_before"]) == ("server_error", 1.0)
        assert moved["score_after"] == pytest.approx(told["score"], abs=0.001)
        await asyncio.sleep(600)
        assert why(node)["score"]["moved_by"] == []


async def test_a_throttle_and_a_quarantine_are_told_with_the_call_that_caused_them() -> None:
    async with fleet(provider("a")) as node:
        await node.fails("rate_limited", retry_after_seconds=7.0)
        throttled = why(node)["throttled"]
        await asyncio.sleep(8)
        await node.fails("credentials")

        told = why(node)

        assert (throttled["seconds"], throttled["because"]["retry_after_seconds"]) == (7.0, 7.0)
        assert told["throttled"] is None
        (quarantine,) = told["quarantined"]
        assert (quarantine["model"], quarantine["reason"], quarantine["seconds"]) == (None, "credentials", 300.0)
        assert quarantine["because"]["what"] == "credentials"
        await asyncio.sleep(301)
        assert why(node)["quarantined"] == []


async def test_a_provider_that_was_never_begun_has_no_history() -> None:
    async with fleet(provider("a")) as node:
        memory = node.memories["a"]
        memory.history = History()

        told = explained(Standing.of(memory, now=0.0, wall=0.0), 5)

        assert told["history"] == {"since": None, "steps": 0, "exact": False}


# -- what if ---------------------------------------------------------------------------------------------------------------


async def test_what_if_tells_both_courses_and_what_is_not_known() -> None:
    async with fleet(provider("a")) as node:
        memory = node.memories["a"]
        await node.fails("timeout", "timeout", "timeout")
        await node.refused()
        await node.refused()
        until = epoch(node) + 100.0

        told = compared(memory.history.chunks(), changes_of({"failure_threshold": "10"}), until, memory.breaker)
        same = compared(memory.history.chunks(), changes_of({"failure_threshold": 3}), until, memory.breaker)

        assert (told["exact"], told["same"], told["settings"]) == (True, False, {"failure_threshold": 10})
        assert ([turn["after"] for turn in told["real"]["turns"]], told["what_if"]["turns"]) == (["open"], [])
        assert told["calls"] == {
            "made": 3, "refused": 2, "would_be_refused": 0, "of_these": {}, "would_be_let_through": 2,
        }  # fmt: skip
        assert same["same"]
        assert same["real"] == same["what_if"]


@pytest.mark.parametrize(
    ("options", "reason", "says"),
    [
        ({"failure_treshold": "3"}, "usage", "did you mean failure_threshold?"),
        ({"failure_threshold": "0"}, "refused", "allowed: 1 to 10000"),
        ({"recovery_timeout": "soon"}, "refused", "recovery_timeout is not a time in range"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_what_can(options: dict[str, str], reason: str, says: str) -> None:
    with pytest.raises(OperationError, match=says.replace("?", r"\?")) as refused:
        changes_of(options)

    assert refused.value.reason == reason


def test_times_are_read_as_those_of_breaker_set() -> None:
    assert changes_of({"recovery_timeout": "120s", "slow_first_token": "0"}) == {
        "recovery_timeout_seconds": 120.0,
        "slow_first_token_seconds": None,
    }
    assert changes_of({"recovery_timeout": "1500"}) == {"recovery_timeout_seconds": 1.5}


async def exported(node: Fleet, path: Path) -> None:
    memory = node.memories["a"]
    until = epoch(node) + asyncio.get_running_loop().time()
    kept = Kept(provider="a", chunks=memory.history.chunks(), breaker=memory.breaker, until=until)
    with path.open("wb") as file:
        async for line in recording.lines((), [kept]):
            file.write(orjson.dumps(line) + b"\n")


async def test_a_history_in_a_file_answers_as_the_node_does(tmp_path: Path) -> None:
    """Every kind of step is in it, and it begins with probes out."""
    async with fleet(provider("a", breaker=SLOW)) as node:
        memory = node.memories["a"]
        memory.history = History(size=2)
        await node.fails("timeout", "timeout", "timeout")
        await asyncio.sleep(12)
        await node.lease()
        probe = await node.lease()
        for _ in range(9):
            await node.crash()
            await asyncio.sleep(6)
        probe.first_content(0.2, 0.1)
        await tell(node, TripBreaker(3.0))
        await node.refused()
        await tell(node, ResetBreaker())
        memory.change(
            evolve(memory.settings, breaker=evolve(SLOW, failure_threshold=2)), asyncio.get_running_loop().time()
        )
        memory.forget(asyncio.get_running_loop().time())
        await node.fails("timeout", "timeout")
        await exported(node, tmp_path / "file")
        until = epoch(node) + asyncio.get_running_loop().time()

        for options in ({"failure_threshold": 2}, {"failure_threshold": 4}, {"half_open_limit": 1}):
            told = recording.what_if(str(tmp_path / "file"), "a", options)["what_if"]
            live = compared(memory.history.chunks(), changes_of(options), until, memory.breaker)

            assert told["exact"]
            assert (told["real"]["state"], told["calls"], told["same"]) == (
                live["real"]["state"],
                live["calls"],
                live["same"],
            )


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "not_found"), ("{}\n", "not_found"), ("no\n", "failed"), ('{"history": "a", "step": "end"}\n', "failed"), ("[]\n", "failed")],
)  # fmt: skip
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "file").write_text(text)

    with pytest.raises(OperationError) as refused:
        recording.what_if(str(tmp_path / "file"), "a", {})

    assert refused.value.reason == reason


def test_a_file_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="nowhere: No such file"):
        recording.what_if(str(tmp_path / "nowhere"), "a", {})
