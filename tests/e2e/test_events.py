"""The flight recorder of a real process: every event of the catalogue happens, is told once, and is found by the console."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from runestone.console.client import AdminClient
from runestone.telemetry.events import CATALOGUE
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.raw import BODY, request
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN

WHOLE: Final = {**HELLO, "stream": False}
QUIET: Final = {"RETRY_BASE_DELAY_MS": "1", "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "4"}


def events(node: Gateway, *options: str) -> list[dict[str, Any]]:
    return list(node.ctl("events", "--last", "1000", *options)["events"])


def of(node: Gateway, request_id: str, last: str = "attempt.finished") -> list[dict[str, Any]]:
    """What happened for one request, once its last event has come."""

    def found() -> list[dict[str, Any]]:
        told = [e for e in events(node, "--request", request_id) if e["event"] != "call.booked"]  # some time later
        return told if told and told[-1]["event"] == last else []

    return list(eventually(found, lambda: str(events(node, "--request", request_id))))


def only(node: Gateway, name: str, **fields: Any) -> dict[str, Any]:
    """The one event of that name with these fields."""

    def found() -> list[dict[str, Any]]:
        return [e for e in events(node, "--name", name) if fields.items() <= e.items()]

    one = eventually(found, lambda: f"{name} {fields}: {events(node, '--name', name)}")
    assert len(one) == 1, one
    return dict(one[0])


@pytest.fixture
def node(serve: Callable[..., Gateway], tmp_path: Path) -> Gateway:
    file = tmp_path / "runestone.toml"
    file.write_text('[events]\nfile = "events.jsonl"\n'.replace("events.jsonl", str(tmp_path / "events.jsonl")))
    return serve("--allow-faults", "--config", str(file), **QUIET)


def test_a_request_s_way_is_told_step_by_step(node: Gateway, primary: Upstream) -> None:
    primary.fault("503")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    node.post(HELLO, {"x-request-id": "mine", "traceparent": trace})

    told = of(node, "mine")
    assert [e["event"] for e in told] == [
        "request.started",
        "attempt.started", "attempt.finished",
        "retry", "attempt.started", "attempt.finished",
        "retry", "attempt.started", "attempt.finished",
        "failover", "attempt.started", "attempt.content",
        "request.finished", "attempt.finished",
    ]  # fmt: skip
    assert [e["seq"] for e in told] == sorted(e["seq"] for e in told)
    assert abs(told[0]["at"] - time.time()) < 60
    started, finished = told[0], told[-2]
    assert {k: started[k] for k in ("route", "model", "stream", "key", "traceparent")} == {
        "route": "/v1/chat/completions", "model": "gpt-4o-mini", "stream": True, "key": "", "traceparent": trace,
    }  # fmt: skip
    calls = [e for e in told if e["event"] == "attempt.started"]
    assert [(c["number"], c["provider"], c["group"]) for c in calls] == [
        *((n, "openai-default", "default-chat-service") for n in (1, 2, 3)),
        (4, "anthropic-default", "default-chat-service"),
    ]
    ends = [e for e in told if e["event"] == "attempt.finished"]
    assert [(e["number"], e["outcome"]) for e in ends] == [(n, "server_error") for n in (1, 2, 3)] + [(4, "ok")]
    assert [e["reason"] for e in told if e["event"] == "retry"] == ["server_error", "server_error"]
    failover = next(e for e in told if e["event"] == "failover")
    assert (failover["origin"], failover["target"], failover["reason"]) == (
        "openai-default", "anthropic-default", "server_error",
    )  # fmt: skip
    assert (finished["status"], finished["outcome"], finished["attempts"]) == (200, "ok", 4)
    assert finished["usage"] == ends[-1]["usage"]
    assert finished["usage"]["output_tokens"] > 0
    booked = eventually(lambda: events(node, "--request", "mine", "--name", "call.booked")[3:], "all are booked")[0]
    assert (booked["provider"], booked["usage"]) == ("anthropic-default", finished["usage"])
    assert booked["cost_usd"] > 0
    assert 0 < finished["first_content_seconds"] <= finished["duration_seconds"]


def test_a_stream_that_came_whole_tells_the_time_between_its_chunks(node: Gateway, primary: Upstream) -> None:
    def ended(body: dict[str, Any], fault: str, outcome: str) -> dict[str, Any]:
        primary.fault(fault)
        with httpx.stream("POST", f"{node.base_url}/chat/completions", json=body, **PLAIN) as answer:
            answer.read()
        return only(node, "attempt.finished", outcome=outcome, request_id=answer.headers["x-request-id"])

    whole = ended({**HELLO, "stream": True}, "pace=0.02", "ok")
    cut = ended({**HELLO, "stream": True}, "pace=0.02 cut_after=5", "truncated")
    plain = ended(WHOLE, "none", "ok")

    assert 0.01 < whole["chunk_seconds"] < whole["duration_seconds"] - whole["first_content_seconds"]
    assert cut["first_content_seconds"] is not None
    assert (cut["chunk_seconds"], plain["chunk_seconds"]) == (None, None)


def test_what_providers_do_is_told(node: Gateway, primary: Upstream, secondary: Upstream) -> None:
    for upstream in (primary, secondary):
        upstream.fault("503")
    assert node.post(WHOLE, {"x-request-id": "nobody"}).status_code == 502
    exhausted = only(node, "failover.exhausted")
    assert exhausted["group"] == "default-chat-service"
    finished = only(node, "request.finished", request_id="nobody")
    assert (finished["status"], finished["outcome"], finished["provider"]) == (502, "server_error", None)

    for _ in range(3):
        node.post({**WHOLE, "model": "openai-default/gpt-4o"})
    change = only(node, "breaker.changed", provider="openai-default")
    assert (change["before"], change["after"]) == ("closed", "open")
    node.ctl("breaker", "reset", "openai-default")
    assert only(node, "breaker.changed", after="closed")["before"] == "open"

    secondary.fault("none")
    primary.fault("none")
    for _ in range(3):
        node.post(WHOLE)
    health = [e for e in events(node, "--name", "provider.health") if e["provider"] == "openai-default"]
    assert health
    assert (health[0]["healthy"], health[0]["group"]) == (False, "default-chat-service")
    assert health[0]["score"] < 0.7

    node.ctl("provider", "set", "openai-default", "--probe-interval", "100")
    probed = eventually(lambda: events(node, "--name", "provider.probed"), "it is probed")[0]
    assert (probed["provider"], probed["outcome"]) == ("openai-default", "ok")
    node.ctl("provider", "set", "openai-default", "--probe-interval", "0")

    node.ctl("provider", "restart", "openai-default")
    primary.fault("429 retry_after=1 times=1")
    node.post({**WHOLE, "model": "openai-default/gpt-4o"})
    assert only(node, "provider.throttled").items() >= {("provider", "openai-default"), ("seconds", 1.0)}
    node.ctl("provider", "restart", "openai-default")
    primary.fault("401")
    node.post({**WHOLE, "model": "openai-default/gpt-4o"})
    quarantined = only(node, "provider.quarantined")
    assert (quarantined["provider"], quarantined["model"], quarantined["reason"]) == (
        "openai-default", None, "credentials",
    )  # fmt: skip


def test_what_the_node_and_its_operators_do_is_told(node: Gateway, tmp_path: Path) -> None:
    admin = AdminClient(node.socket)
    node.ctl("group", "create", "mine", "--members", "openai-default")
    made = only(node, "admin.acted", action="POST /v1/groups")
    assert made["outcome"] == "ok"
    assert "@" in made["who"]
    assert only(node, "config.changed")["done"] == ["groups: changed"]
    assert node.ctl_raw("log", "level", "loud").returncode == 78
    assert only(node, "config.refused")["reason"] == "invalid"
    assert only(node, "admin.acted", action="POST /v1/log/level")["outcome"] == "invalid"

    admin.request("POST", "/v1/providers/openai-default/maint")
    admin.request("POST", "/v1/providers/openai-default/maint")  # nothing new
    assert only(node, "provider.admin_state").items() >= {
        ("provider", "openai-default"),
        ("before", "ready"),
        ("after", "maintenance"),
    }
    admin.request("POST", "/v1/crash", {"name": "failover"})
    restarted = only(node, "process.restarted", process="runestone/node/failover")
    assert (restarted["reason"], restarted["delay_seconds"]) == ("RuntimeError", 0.0)
    gone = "runestone/node/fleet/providers/anthropic-default"

    def given_up() -> list[dict[str, Any]]:
        node.ctl("crash", "provider:anthropic-default", check=False)
        return events(node, "--name", "supervisor.gave_up")

    assert eventually(given_up, "its supervisor gives up")[0]["supervisor"] == gone

    node.process.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    node.process.send_signal(signal.SIGCONT)
    held = eventually(lambda: events(node, "--name", "loop.held_up"), "the hold-up is told")
    assert max(e["seconds"] for e in held) > 0.5


def test_every_event_of_the_catalogue_is_looked_for_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")

    assert [name for name in CATALOGUE if f'"{name}"' not in text] == []


def test_the_file_has_what_the_memory_has(node: Gateway, tmp_path: Path) -> None:
    for number in range(5):
        node.post(WHOLE, {"x-request-id": f"r{number}"})
    for number in range(5):
        of(node, f"r{number}")
    eventually(lambda: len(events(node, "--name", "call.booked")) == 5, "all are booked")
    told = events(node)
    node.stop()

    path = tmp_path / "events.jsonl"
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert written[: len(told)] == told
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_crash_of_what_writes_the_file_forgets_nothing(node: Gateway, tmp_path: Path) -> None:
    node.post(WHOLE, {"x-request-id": "before"})
    of(node, "before")
    node.ctl("crash", "events")
    node.post(WHOLE, {"x-request-id": "after"})
    of(node, "after")
    assert of(node, "before")
    node.stop()

    written = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [e["seq"] for e in written] == list(range(1, len(written) + 1))
    counts = Counter(e.get("request_id") for e in written)
    assert counts["before"] == counts["after"] == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_fails_no_request_and_is_counted(serve: Callable[..., Gateway], tmp_path: Path) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text('[events]\nfile = "/dev/full"\n')
    node = serve("--config", str(file))

    assert all(node.post(WHOLE).status_code == 200 for _ in range(20))

    assert eventually(lambda: node.ctl("status")["dropped"]["file_events"] >= 100, "they are counted")
    lines = [json.loads(line) for line in node.told().splitlines()]
    assert [r["event"] for r in lines if r["level"] == "ERROR"] == [
        "events are not written to /dev/full: No space left on device"
    ]
    assert node.stop() == 0


def test_follow_tells_what_comes_and_what_was_missed(serve: Callable[..., Gateway], tmp_path: Path) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text("[events]\nkeep = 8\n")
    node = serve("--config", str(file))
    ctl = [sys.executable, "-m", "runestone", "ctl", "--socket", str(node.socket)]
    node.post(WHOLE, {"x-request-id": "first"})
    of(node, "first")

    with subprocess.Popen(
        [*ctl, "--json", "events", "--name", "attempt.*", "--follow"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as following:  # fmt: skip
        assert following.stdout is not None
        old = [json.loads(following.stdout.readline()) for _ in range(3)]
        node.post(WHOLE, {"x-request-id": "second"})
        new = [json.loads(following.stdout.readline()) for _ in range(3)]
        following.send_signal(signal.SIGSTOP)
        for _ in range(5):
            node.post(WHOLE)
        following.send_signal(signal.SIGCONT)
        following.stdout.readline()
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=20)

    assert {e["request_id"] for e in old} == {"first"}
    assert [(e["event"], e["request_id"]) for e in new] == [
        (name, "second") for name in ("attempt.started", "attempt.content", "attempt.finished")
    ]
    assert following.returncode == 130
    assert "are gone from the memory" in said
    assert "Traceback" not in said


def test_people_get_a_line_for_each_and_a_wrong_question_is_refused(node: Gateway) -> None:
    node.post(WHOLE, {"x-request-id": "mine"})
    of(node, "mine")

    eventually(lambda: events(node, "--request", "mine", "--name", "call.booked"), "it is booked")
    shown = node.ctl_raw("events", "--request", "mine", "--last", "3")
    assert shown.returncode == 0
    first, second, _ = shown.stdout.splitlines()
    assert "request.finished request_id=mine route=/v1/chat/completions" in first
    assert "attempt.finished provider=openai-default" in second

    for options, code in (
        (("--name", "breker.*"), 3),
        (("--last", "0"), 1),
        (("--last", "1001"), 1),
        (("--since", "-1"), 1),
        (("--name", ""), 1),
    ):
        refused = node.ctl_raw("events", *options)
        assert (refused.returncode, refused.stdout) == (code, ""), refused
    assert "there are request.started" in node.ctl_raw("events", "--name", "breker.*").stderr


def test_the_admin_api_takes_the_same_as_a_query(node: Gateway) -> None:
    for number in range(3):
        node.post(WHOLE, {"x-request-id": f"r{number}"})
    of(node, "r2")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(node.socket)), base_url="http://x") as client:
        answer = client.get("/v1/events?since=2&name=attempt.*&limit=2&provider=openai-default").json()
        again = client.get("/v1/events", params={"since": answer["next"], "name": "attempt.*", "request": "r2"}).json()
        assert client.get("/v1/events?limit=a").status_code == 400

    assert [e["seq"] for e in answer["events"]] == sorted(e["seq"] for e in answer["events"])
    assert len(answer["events"]) == 2
    assert answer["next"] == answer["events"][-1]["seq"]
    assert {e["request_id"] for e in again["events"]} == {"r2"}


def test_a_model_s_name_that_is_none_is_refused_and_not_kept(node: Gateway) -> None:
    answer = node.post({**WHOLE, "model": "m" * 100_000}, {"x-request-id": "long"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert node.post({**WHOLE, "model": "gpt-" + "m" * 508}).status_code == 200
    assert [e["asked"] for e in of(node, "long", "request.finished")] == [None]


def test_a_provider_without_telemetry_is_named_in_no_event_of_its_own(
    serve: Callable[..., Gateway], tmp_path: Path, primary: Upstream
) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text("[providers.openai-default]\ntelemetry = false\n")
    node = serve("--config", str(file), **QUIET)
    primary.fault("503 times=2")

    node.post(WHOLE, {"x-request-id": "mine"})

    assert [e["event"] for e in of(node, "mine", "request.finished")] == ["request.started", "request.finished"]
    assert [e["event"] for e in events(node, "--provider", "openai-default")] == ["request.finished"]


def test_a_client_that_leaves_ends_its_request_and_its_call(node: Gateway, primary: Upstream) -> None:
    primary.fault("stall")
    with socket.create_connection(("127.0.0.1", node.port)) as client:
        client.sendall(request("x-request-id: gone", f"content-length: {len(BODY)}"))
        eventually(primary.requests, "it has arrived")

    told = of(node, "gone", "request.finished")
    assert [e["event"] for e in told] == ["request.started", "attempt.started", "attempt.finished", "request.finished"]
    assert (told[2]["outcome"], told[3]["outcome"], told[3]["status"]) == ("cancelled", "client_gone", 0)
