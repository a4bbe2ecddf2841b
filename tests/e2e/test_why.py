"""Why a provider is as it is, and what other settings would have made of it, asked of a real node in front of one that fails."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from runestone.api import CircuitBreakerManager, OperationError, RemoteNode
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO

PINNED = {**HELLO, "model": "openai-default/gpt-4o-mini"}
ONCE = {"RETRY_MAX_ATTEMPTS": "1"}


@pytest.fixture
def node(serve: Callable[..., Gateway]) -> Gateway:
    return serve("--allow-faults", **ONCE)


def ask(node: Gateway, *ids: str) -> list[int]:
    """A call to the provider for each request, one after the other."""
    return [node.post(PINNED, {"x-request-id": each}).status_code for each in ids]


def why(node: Gateway, *options: str) -> dict[str, Any]:
    """What is told, once nothing that it learns from is still under way."""
    eventually(lambda: node.provider("openai-default")["in_flight"] == 0, "all calls are over")
    told = dict(node.ctl("why", "openai-default", *options)["why"])
    assert told["history"]["exact"]
    return told


def requests(turn: dict[str, Any]) -> list[str]:
    return [step["request"] for step in turn["steps"]]


# -- each cause of an open breaker -----------------------------------------------------------------------------------------


def test_failures_in_a_row_are_told_by_their_requests(node: Gateway, primary: Upstream) -> None:
    ask(node, "good")
    primary.fault("503 times=3")
    ask(node, "r1", "r2", "r3")
    primary.fault("error_event")
    ask(node, "r4", "r5")

    told = why(node)["breaker"]

    assert (told["state"], told["because"]["cause"], told["because"]["count"]) == ("open", "failures_in_a_row", 5)
    assert requests(told["because"]) == ["r1", "r2", "r3", "r4", "r5"]
    kinds = [step["what"] for step in told["because"]["steps"]]
    assert kinds == ["server_error"] * 3 + ["error_event"] * 2
    (changed,) = node.ctl("events", "--name", "breaker.changed")["events"]
    assert (changed["before"], changed["after"]) == ("closed", "open")
    (opened,) = told["turns"]
    assert opened["at"] == told["since"]
    assert 50 < told["tried_again"]["seconds"] <= 66


def test_half_of_the_calls_in_the_window_are_told_by_their_requests(node: Gateway, primary: Upstream) -> None:
    for n in range(5):
        primary.fault("none")
        ask(node, f"good{n}")
        primary.fault("503")
        ask(node, f"bad{n}")

    because = why(node)["breaker"]["because"]

    assert (because["cause"], because["count"], because["calls"]) == ("failures_in_the_window", 5, 10)
    assert because["words"] == "5 of 10 calls within 30 s failed"
    assert requests(because) == [f"bad{n}" for n in range(5)]


def test_slow_first_tokens_are_told_by_their_requests(node: Gateway, primary: Upstream) -> None:
    node.ctl("breaker", "set", "openai-default", "--slow-first-token", "50")
    ask(node, "quick1", "quick2")
    primary.fault("slow_first_token=0.2")
    ask(node, *(f"slow{n}" for n in range(8)))

    because = why(node)["breaker"]["because"]

    assert (because["cause"], because["calls"]) == ("slow_in_the_window", 10)
    assert [each for each in requests(because) if each.startswith("slow")] == [f"slow{n}" for n in range(8)]
    assert "more than 0.05 s" in because["words"]


def test_what_an_operator_has_forced_is_told_with_who_it_says_to_be(node: Gateway) -> None:
    node.ctl("breaker", "trip", "openai-default", "--seconds", "100")
    told = why(node)["breaker"]
    node.ctl("breaker", "reset", "openai-default")
    node.ctl("provider", "restart", "openai-default")

    who = node.ctl("events", "--name", "admin.acted")["events"][0]["who"]
    assert (told["mode"], told["because"]["cause"], told["because"]["who"]) == ("forced_open", "operator", who)
    assert 90 < told["tried_again"]["seconds"] <= 100
    turns = why(node)["breaker"]["turns"]
    assert [turn["words"].split(" ")[0:2] for turn in turns] == [["an", "operator"]] * 2 + [["the", "provider"]]
    assert all("@" in turn["who"] for turn in turns)


def test_its_probes_are_told_and_how_they_went(node: Gateway, primary: Upstream) -> None:
    node.ctl("breaker", "set", "openai-default", "--recovery-timeout", "200ms", "--failure-threshold", "1")
    primary.fault("503 times=2")
    ask(node, "opens")
    eventually(lambda: why(node)["breaker"]["state"] == "half_open", "it may be tried")
    ask(node, "bad-probe")
    eventually(lambda: why(node)["breaker"]["state"] == "half_open", "it may be tried again")
    ask(node, "p1", "p2")

    told = why(node, "--last", "10")["breaker"]

    assert told["state"] == "closed"
    assert [turn["after"] for turn in told["turns"]] == ["open", "half_open", "open", "half_open", "closed"]
    assert [(p["request"], p["outcome"]) for p in told["probes"]] == [
        ("bad-probe", "server_error"), ("p1", "good"), ("p2", "good"),
    ]  # fmt: skip
    assert [turn["after"] for turn in why(node, "--last", "1")["breaker"]["turns"]] == ["closed"]


def test_people_are_told_that_the_event_of_a_half_open_breaker_comes_before_its_first_probe(
    node: Gateway, primary: Upstream
) -> None:
    node.ctl("breaker", "set", "openai-default", "--recovery-timeout", "200ms", "--failure-threshold", "1")
    primary.fault("503 times=1")
    ask(node, "opens")
    note = "the event breaker.changed tells it as soon as the time is over"
    eventually(lambda: why(node)["breaker"]["state"] == "half_open", "it may be tried")
    assert note not in node.ctl_raw("why", "openai-default").stdout
    ask(node, "probe")

    turn = why(node)["breaker"]["turns"][1]
    event = next(e for e in node.ctl("events", "--name", "breaker.changed")["events"] if e["after"] == "half_open")

    assert (turn["after"], turn["cause"]) == ("half_open", "time_was_over")
    assert event["at"] < datetime.fromisoformat(turn["at"]).timestamp()
    assert note in node.ctl_raw("why", "openai-default").stdout


def test_a_crash_of_the_actor_loses_nothing_of_it(node: Gateway, primary: Upstream) -> None:
    primary.fault("503")
    ask(node, "r1", "r2", "r3", "r4", "r5")
    before = why(node)["breaker"]["because"]
    node.ctl("crash", "provider:openai-default")
    eventually(lambda: node.provider("openai-default")["incarnation"] == 2, "the next incarnation is there")

    told = why(node)["breaker"]

    assert (told["state"], told["because"]) == ("open", before)


# -- the score, throttle, quarantine, drain --------------------------------------------------------------------------------


def test_what_holds_a_score_down_is_told_with_the_calls_that_did(node: Gateway, primary: Upstream) -> None:
    ask(node, "good")
    primary.fault("503")
    ask(node, "bad")

    told = why(node)["score"]

    assert told["held_down_by"] == ["success"]
    assert [(moved["request"], moved["score_before"] > moved["score_after"]) for moved in told["moved_by"]] == [
        ("bad", True)
    ]


def test_a_throttle_and_a_quarantine_are_told_by_the_request_that_met_them(node: Gateway, primary: Upstream) -> None:
    primary.fault("429 retry_after=50 times=1")
    ask(node, "limited")
    throttled = why(node)["throttled"]
    node.ctl("provider", "restart", "openai-default")
    primary.fault("401")
    ask(node, "refused")

    told = why(node)

    assert 40 < throttled["seconds"] <= 50
    assert (throttled["because"]["request"], throttled["because"]["retry_after_seconds"]) == ("limited", 50.0)
    (quarantine,) = told["quarantined"]
    assert (quarantine["model"], quarantine["reason"]) == (None, "credentials")
    assert quarantine["because"]["request"] == "refused"
    text = node.ctl_raw("why", "openai-default").stdout
    assert "all of it: credentials" in text
    assert "refused" in text


# -- as it is typed --------------------------------------------------------------------------------------------------------


def test_a_person_reads_it_line_by_line(node: Gateway, primary: Upstream) -> None:
    primary.fault("503")
    ask(node, "r1", "r2", "r3", "r4", "r5")
    why(node)

    done = node.ctl_raw("why", "openai-default")

    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["provider", "openai-default", "is", "open"]
    assert lines[1][:3] == ["breaker", "open", "since"]
    assert lines[2][-5:] == ["5", "failures", "in", "a", "row"]
    assert [line[1:] for line in lines[3:8]] == [["server_error", f"r{n}"] for n in range(1, 6)]
    assert "; held down by " in done.stdout
    assert "played again, they end where it is" in done.stdout


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["why", "nobody"], 3, "there are anthropic-default, openai-default"),
        (["why", "openai-defualt"], 3, "did you mean openai-default?"),
        (["why"], 2, "required"),
        (["why", "openai-default", "--last", "0"], 1, "from 1 to 1000"),
        (["what-if", "nobody", "failure_threshold=1"], 3, "no provider"),
        (["what-if", "openai-default"], 2, "required"),
        (["what-if", "openai-default", "failure_threshold"], 2, "such as failure_threshold=10"),
        (["what-if", "openai-default", "failure_treshold=1"], 2, "did you mean failure_threshold?"),
        (["what-if", "openai-default", "failure_threshold=0"], 1, "allowed: 1 to 10000"),
        (["what-if", "openai-default", "recovery_timeout=soon"], 1, "120s"),
        (["what-if", "openai-default", "half_open_limit=1", "--from", "/nowhere"], 1, "/nowhere: No such file"),
        (["events", "export", "-", "--provider", "nobody"], 3, "no provider"),
        (["events", "export", "-", "--name", "nothing"], 3, "no event"),
        (["events", "export", "/nowhere/file"], 1, "No such file"),
    ],
)
def test_a_question_that_has_no_answer_is_refused_with_what_would_have(
    node: Gateway, command: list[str], code: int, says: str
) -> None:
    done = node.ctl_raw(*command)

    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_of_it_can_be_posted_and_asking_changes_nothing(node: Gateway, primary: Upstream) -> None:
    primary.fault("503")
    ask(node, "r1", "r2", "r3", "r4", "r5")
    before = (why(node)["history"], node.ctl("breaker", "show", "openai-default")["breaker"]["generation"])
    transport = httpx.HTTPTransport(uds=str(node.socket))
    with httpx.Client(transport=transport, base_url="http://node") as client:
        for path in ("/v1/providers/openai-default/why", "/v1/breakers/openai-default/what-if", "/v1/events/export"):
            assert client.post(path).status_code == 404
            assert client.get(path).status_code == 200
    node.ctl("what-if", "openai-default", "failure_threshold=1", "recovery_timeout=1s")

    assert (why(node)["history"], node.ctl("breaker", "show", "openai-default")["breaker"]["generation"]) == before
    assert node.ctl("events", "--name", "admin.acted")["events"] == []


# -- what if ---------------------------------------------------------------------------------------------------------------


def test_with_a_threshold_of_ten_it_would_not_have_opened(node: Gateway, primary: Upstream) -> None:
    primary.fault("503")
    assert ask(node, "r1", "r2", "r3", "r4", "r5", "r6", "r7") == [503] * 7
    why(node)

    told = node.ctl("what-if", "openai-default", "failure_threshold=10")["what_if"]
    same = node.ctl("what-if", "openai-default", "failure_threshold=5", "recovery_timeout=60s")["what_if"]

    assert (told["settings"], told["in_force"]["failure_threshold"]) == ({"failure_threshold": 10}, 5)
    assert [turn["after"] for turn in told["real"]["turns"]] == ["open"]
    assert (told["what_if"]["turns"], told["what_if"]["state"], told["same"]) == ([], "closed", False)
    assert told["calls"] == {
        "made": 5, "refused": 2, "would_be_refused": 0, "of_these": {}, "would_be_let_through": 2,
    }  # fmt: skip
    assert (same["same"], same["exact"], same["real"]) == (True, True, same["what_if"])
    text = node.ctl_raw("what-if", "openai-default", "failure_threshold=10").stdout
    assert "failure_threshold 5 -> 10" in text
    assert "2 of these would have been let through; how they would have ended nobody knows" in text
    assert "open: 5 failures in a row" in text


def test_with_a_threshold_of_two_it_would_have_spared_calls(node: Gateway, primary: Upstream) -> None:
    primary.fault("503 times=4")
    ask(node, "r1", "r2", "r3", "r4", "good")
    why(node)

    told = node.ctl("what-if", "openai-default", "failure_threshold=2")["what_if"]

    assert (told["real"]["turns"], [turn["after"] for turn in told["what_if"]["turns"]]) == ([], ["open"])
    assert requests(told["what_if"]["turns"][0]) == ["r1", "r2"]
    assert told["calls"]["of_these"] == {"failure": 2, "success": 1}


def test_it_is_asked_from_python_too(node: Gateway, primary: Upstream) -> None:
    import asyncio

    primary.fault("503")
    ask(node, "r1", "r2", "r3", "r4", "r5")
    why(node)

    async def asked() -> tuple[str, bool, str]:
        async with RemoteNode(node.socket) as remote:
            breakers = CircuitBreakerManager(remote)
            told = await breakers.why("openai-default", last=1)
            other = await breakers.what_if("openai-default", {"failure_threshold": 10})
            with pytest.raises(OperationError) as refused:
                await breakers.what_if("openai-default", {"nothing": 10})
            return told["breaker"]["because"]["words"], other["same"], refused.value.reason

    assert asyncio.run(asked()) == ("5 failures in a row", False, "usage")


# -- what is written down --------------------------------------------------------------------------------------------------


def test_an_export_holds_events_and_histories_and_answers_without_the_node(
    node: Gateway, primary: Upstream, tmp_path: Path
) -> None:
    primary.fault("503")
    ask(node, "r1", "r2", "r3", "r4", "r5", "r6")
    why(node)
    live = node.ctl("what-if", "openai-default", "failure_threshold=10")["what_if"]
    file = tmp_path / "recorded.jsonl"

    done = node.ctl("events", "export", str(file))

    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert done == {"v": 1, "file": str(file), "lines": len(lines)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    events = [line for line in lines if "event" in line]
    assert [line["seq"] for line in events] == list(range(1, len(events) + 1))
    steps = [line for line in lines if line.get("history") == "openai-default"]
    assert [step["request"] for step in steps if step["step"] == "end"] == ["r1", "r2", "r3", "r4", "r5"]
    assert {line["history"] for line in lines if "history" in line} == {"openai-default", "anthropic-default"}
    node.stop()
    command = [sys.executable, "-m", "runestone", "ctl", "--json", "what-if", "openai-default"]
    command += ["--from", str(file), "failure_threshold=10"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["what_if"]
    assert told["exact"]
    assert {**told, "until": None, "real": None, "since": None} == {**live, "until": None, "real": None, "since": None}


def test_an_export_is_narrowed_and_goes_to_standard_output(node: Gateway, primary: Upstream) -> None:
    ask(node, "r1")
    node.post({**HELLO, "model": "anthropic-default/claude-sonnet-4-5"}, {"x-request-id": "other"})
    why(node)

    done = node.ctl_raw("events", "export", "-", "--provider", "openai-default", "--name", "attempt.*")

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert {line["event"] for line in lines if "event" in line} == {
        "attempt.started", "attempt.content", "attempt.finished",
    }  # fmt: skip
    assert {line.get("provider", line.get("history")) for line in lines} == {"openai-default"}
    latest = max(line["seq"] for line in lines if "seq" in line)
    rest = node.ctl_raw("events", "export", "-", "--since", str(latest), "--name", "attempt.*").stdout
    assert "openai-default/gpt" not in rest
    assert all(json.loads(line).get("seq", latest + 1) > latest for line in rest.splitlines())


def test_a_provider_without_telemetry_is_in_no_export_and_still_explained(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(**ONCE)
    node.ctl("provider", "set", "openai-default", "--telemetry", "false")
    primary.fault("503")
    ask(node, "r1", "r2", "r3", "r4", "r5")

    assert requests(why(node)["breaker"]["because"]) == ["r1", "r2", "r3", "r4", "r5"]
    assert '"history": "openai-default"' not in node.ctl_raw("events", "export", "-").stdout


def test_events_and_events_tail_are_the_same(node: Gateway) -> None:
    node.post(HELLO, {"x-request-id": "mine"})

    one, two = (
        node.ctl(*words, "--request", "mine", "--name", "request.*") for words in (["events"], ["events", "tail"])
    )

    assert one["events"] == two["events"] != []
    assert "{export,tail}" in (helped := node.ctl_raw("events", "--help").stdout) or "export" in helped
