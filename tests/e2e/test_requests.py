"""The way of single requests through a real process: what each met, told by `requests` and `request show` from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from runestone.api import OperationError, RemoteNode, TelemetryHandler
from runestone.console.client import AdminClient
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN

WHOLE: Final = {**HELLO, "stream": False}
CANARY: Final = "never-to-be-seen-in-any-journey"


def asked(node: Gateway, body: Any = WHOLE, **headers: str) -> str:
    """Ask; the id that the answer tells."""
    answer = node.post(body, {name.replace("_", "-"): value for name, value in headers.items()})
    return answer.headers["x-request-id"]


def booked(node: Gateway, request_id: str) -> dict[str, Any]:
    """Its way, once all its calls have their cost."""

    def found() -> dict[str, Any] | None:
        way = node.ctl("request", "show", request_id)
        calls = way["attempts"]
        return way if calls and all(c["booked"] for c in calls) else None

    return dict(eventually(found, lambda: str(node.ctl("request", "show", request_id))))


def listed(node: Gateway, *options: str) -> list[str]:
    return [row["id"] for row in node.ctl("requests", *options)["requests"]]


def test_a_request_that_failed_over_tells_each_call_with_its_reason_its_wait_and_its_cost(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault("503")
    answer = node.post({**WHOLE, "messages": [{"role": "user", "content": CANARY}]})

    way = booked(node, answer.headers["x-request-id"])

    calls, row = way["attempts"], way["request"]
    assert [(c["number"], c["provider"], c["why"], c["outcome"]) for c in calls] == [
        (1, "openai-default", "first", "server_error"),
        (2, "openai-default", "retry after server_error", "server_error"),
        (3, "openai-default", "retry after server_error", "server_error"),
        (4, "anthropic-default", "failover from openai-default after server_error", "ok"),
    ]
    assert calls[0]["waited_ms"] == 0
    assert 0 < calls[1]["waited_ms"] <= calls[1]["gap_ms"] + 5  # two clocks
    assert [c["breaker"] for c in calls] == ["closed"] * 4
    assert calls[3]["model"] == answer.headers["x-runestone-model"] == row["model"]
    assert (calls[3]["tokens_in"], calls[3]["tokens_out"]) == (row["tokens_in"], row["tokens_out"])
    assert [c["cost_usd"] for c in calls[:3]] == [0, 0, 0]
    assert row["cost_usd"] == calls[3]["cost_usd"] > 0
    assert (row["state"], row["status"], row["outcome"], row["attempts"]) == ("ok", 200, "ok", 4)
    assert (row["asked"], row["provider"]) == ("gpt-4o-mini", "anthropic-default")
    assert row["providers"] == ["openai-default", "anthropic-default"]
    assert row["waited_ms"] == pytest.approx(sum(c["waited_ms"] for c in calls), abs=0.2)
    assert 0 < row["first_content_ms"] <= row["duration_ms"]
    assert (way["exhausted"], way["passed_over"], way["same_id"]) == ([], [], 0)
    for text in (str(way), node.ctl_raw("requests").stdout, node.ctl_raw("request", "show", row["id"]).stdout):
        assert CANARY not in text
        assert "anthropic-default" in text


def test_who_was_passed_over_is_told_with_what_was_against_it_then(node: Gateway, primary: Upstream) -> None:
    node.ctl("breaker", "trip", "openai-default")
    while_open = asked(node)
    node.ctl("breaker", "reset", "openai-default")
    primary.fault("429 retry_after=30 times=1")
    throttled_by = asked(node)
    while_throttled = asked(node)

    first, second, third = (node.ctl("request", "show", i) for i in (while_open, throttled_by, while_throttled))

    assert first["passed_over"] == [{"provider": "openai-default", "why": "its breaker was open"}]
    assert [(c["provider"], c["outcome"]) for c in second["attempts"]] == [
        ("openai-default", "rate_limited"),
        ("anthropic-default", "ok"),
    ]
    assert [e["event"] for e in second["meanwhile"] if e["event"] == "provider.throttled"]
    (passed,) = third["passed_over"]
    assert passed["provider"] == "openai-default"
    assert passed["why"].startswith("it had said 429, and was left alone for ")


def test_the_call_that_finds_a_breaker_half_open_is_told_as_one(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(CIRCUIT_BREAKER_RECOVERY_TIMEOUT="300", CIRCUIT_BREAKER_FAILURE_THRESHOLD="1", RETRY_MAX_ATTEMPTS="1")
    primary.fault("503 times=1")
    opened_it = asked(node)
    eventually(lambda: node.ctl("breaker", "show", "openai-default")["breaker"]["state"] == "half_open", "time passes")
    node.ctl("group", "set", "default-chat-service", "--health-threshold", "0")
    probe = asked(node, {**WHOLE, "model": "openai-default/gpt-4o"})

    first, second = node.ctl("request", "show", opened_it), node.ctl("request", "show", probe)

    assert first["attempts"][0]["breaker"] == "closed"
    assert ("breaker.changed", "open") in [(e["event"], e.get("after")) for e in first["meanwhile"]]
    assert [(c["breaker"], c["outcome"]) for c in second["attempts"]] == [("half_open", "ok")]


def test_a_request_that_nobody_took_says_who_refused_and_why(node: Gateway, primary: Upstream) -> None:
    node.ctl("breaker", "trip", "openai-default", "--seconds", "50")
    node.ctl("breaker", "trip", "anthropic-default")
    refused = asked(node, x_request_id="mine")

    assert refused == "mine"
    way = node.ctl("request", "show", "mine")

    assert way["attempts"] == []
    ((end,), row) = way["exhausted"], way["request"]
    assert end["reason"] == "refused"
    assert [(r["provider"], r["reason"]) for r in end["refusals"]] == [
        ("openai-default", "breaker_open"),
        ("anthropic-default", "breaker_open"),
    ]
    assert 40 < end["refusals"][0]["retry_after_seconds"] <= 50
    assert (row["state"], row["status"], row["outcome"]) == ("failed", 503, "no_provider_available")
    assert (
        "nobody was left (refused): openai-default refused (breaker_open, for "
        in node.ctl_raw("request", "show", "mine").stdout
    )
    assert primary.requests() == []


def test_requests_are_chosen_by_how_slow_they_were_whether_they_failed_whose_and_where(
    serve: Callable[..., Gateway], primary: Upstream, tmp_path: Path
) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text('[keys.mine]\nkey = "key-of-mine"\n[keys.yours]\nkey = "key-of-yours"\n')
    node = serve("--config", str(file), RETRY_MAX_ATTEMPTS="1")
    mine, yours = {"authorization": "Bearer key-of-mine"}, {"authorization": "Bearer key-of-yours"}
    quick = asked(node, **mine)
    primary.fault("slow=0.001 times=1")
    slow = asked(node, **yours)
    primary.fault("status=400 times=1")
    failed = asked(node, **mine)
    other = asked(node, {**WHOLE, "model": "anthropic-default/claude-sonnet-4-5"}, **mine)
    unknown = asked(node, {**WHOLE, "model": "nobody-has-it"}, **yours)
    stranger = asked(node, authorization="Bearer wrong")

    everything = [stranger, unknown, other, failed, slow, quick]
    assert node.ctl_raw("requests", "-o", "name").stdout.splitlines() == everything
    assert listed(node) == everything
    assert listed(node, "-n", "2") == everything[:2]
    assert listed(node, "--slow", "-n", "1") == [slow]
    assert listed(node, "--slow", "--by", "duration", "-n", "1") == [slow]
    assert listed(node, "--failed") == [stranger, unknown, failed]
    assert listed(node, "--provider", "anthropic-default") == [other]
    assert listed(node, "--key", "yours") == [unknown, slow]
    assert listed(node, "--failed", "--key", "mine") == [failed]
    assert listed(node, "--since", "1h") == everything
    assert listed(node, "--since", "2100-01-01") == []
    assert node.ctl("requests", "-n", "2")["matching"] == 6
    for wrong in (("-n", "0"), ("--since", "soon"), ("-n", "5000")):
        assert node.ctl_raw("requests", *wrong).returncode == 1
    assert node.ctl_raw("requests", "--by", "size").returncode == 2


def test_one_in_flight_is_told_as_such_and_so_is_a_client_that_left(node: Gateway, primary: Upstream) -> None:
    primary.fault("stall after=3")
    with httpx.stream(
        "POST", f"{node.base_url}/chat/completions", json=HELLO, headers={"x-request-id": "going"}, **PLAIN
    ) as answer:
        assert answer.headers["x-request-id"] == "going"
        (row,) = node.ctl("requests")["requests"]
        assert (row["id"], row["state"], row["outcome"], row["status"]) == ("going", "in_flight", None, None)
        assert (row["providers"], row["stream"]) == (["openai-default"], True)
        assert row["duration_ms"] > 0
        assert node.ctl("requests")["in_flight"] == 1
        assert "(in flight)" in node.ctl_raw("requests").stdout
        assert node.ctl("request", "show", "going")["attempts"][0]["outcome"] == "in_flight"

    gone = eventually(
        lambda: [r for r in node.ctl("requests")["requests"] if r["state"] == "client_gone"], "it is gone"
    )
    assert gone[0]["id"] == "going"
    assert listed(node, "--failed") == []


def test_what_is_forgotten_is_3_and_says_how_far_the_memory_reaches_and_where_to_look(
    serve: Callable[..., Gateway], tmp_path: Path
) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text("[events]\nkeep = 20\n")
    node = serve("--config", str(file))
    never = node.ctl_raw("request", "show", "req_none")
    old = asked(node)
    while not (told := node.ctl("requests"))["forgotten"] or old in [row["id"] for row in told["requests"]]:
        asked(node)

    gone = node.ctl_raw("request", "show", old)

    assert (never.returncode, gone.returncode) == (3, 3)
    assert "nothing is forgotten yet" in never.stderr
    back = [row for row in told["requests"] if row["id"] != old]
    assert back, "what is remembered is told all the same"
    assert "reaches back to 2" in gone.stderr
    assert "events.file" in gone.stderr
    assert "the ledger" in gone.stderr
    assert "what was before is forgotten" in node.ctl_raw("requests").stdout


def test_the_ids_of_the_last_requests_can_be_had_for_completion(node: Gateway) -> None:
    ids = [asked(node) for _ in range(3)]

    assert AdminClient(node.socket).request("GET", "/v1/names/requests")["names"] == ids[::-1]


def test_from_python_it_is_the_same(node: Gateway) -> None:
    ids = [asked(node), asked(node)]

    async def remotely() -> tuple[list[dict[str, Any]], dict[str, Any], str]:
        async with RemoteNode(node.socket) as remote:
            telemetry = TelemetryHandler(remote)
            rows = await telemetry.get_requests(n=1, slow=True, provider="openai-default", since="1h")
            way = await telemetry.get_request(ids[0])
            with pytest.raises(OperationError) as refused:
                await telemetry.get_request("nobody")
            return rows, way, refused.value.reason

    rows, way, reason = asyncio.run(remotely())

    assert [row["id"] in ids for row in rows] == [True]
    assert (way["request"]["id"], reason) == (ids[0], "not_found")


def test_a_chat_from_inside_is_listed_with_its_calls(node: Gateway) -> None:
    client = AdminClient(node.socket)
    lines = list(client.lines("POST", "/v1/chat", {"request": WHOLE}))

    (row,) = node.ctl("requests")["requests"]

    assert row["id"] == lines[0]["id"]
    assert (row["provider"], row["attempts"], row["state"], row["route"]) == ("openai-default", 1, "ok", "inside")
