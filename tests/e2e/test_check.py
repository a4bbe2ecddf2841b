"""``runestone check`` as a person and as CI runs it: what it ticks, what it does not and why, and that the node is as before."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from runestone.check.boxes import BOXES
from runestone.check.serving import ROUTES
from runestone.cli import main
from runestone.console.client import AdminClient
from runestone.http import apis
from tests.e2e.load import Client, crowd
from tests.e2e.node import Gateway, Upstream, eventually, gateway
from tests.support.forked import carried_out
from tests.support.plain import PLAIN

NAMES = [box.name for box in BOXES]
UNTIMED = {name for name in NAMES if name != "performance"}  # how quick the machine is now is no matter of a test
ANYBODY: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


def command(node: Gateway, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "runestone", "check", "--socket", str(node.socket), *arguments]


def check(node: Gateway, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ("check", "--socket", str(node.socket), *arguments)
    return carried_out(*words, seconds=110, env={**os.environ, **environment})


def boxes(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """The boxes of ``check --json``, by name."""
    assert done.stdout, done.stderr
    data = json.loads(done.stdout)
    assert data["v"] == 1
    return {box["box"]: box for box in data["boxes"]}


def unticked(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: box["detail"] for name, box in found.items() if not box["ok"] and name in UNTIMED}


def what_checks_have_made(node: Gateway) -> list[str]:
    """All that is there by a name of a check."""
    names = [provider["name"] for provider in node.ctl("providers")["providers"]]
    names += [group["name"] for group in node.ctl("group", "list")["groups"]]
    names += [change["key"] for change in node.ctl("config", "diff")["changes"]]
    return [name for name in names if "check-" in name]


def estimates(node: Gateway) -> dict[str, Any]:
    """What a request would cost, which the node corrects by what providers have counted."""
    costs = AdminClient(node.socket).request("POST", "/v1/costs/estimate", {"request": ANYBODY})["costs"]
    return dict(costs)


@contextmanager
def under_load(client: Client) -> Iterator[None]:
    """Four clients ask again and again while the block runs."""
    over = threading.Event()

    async def until_over() -> None:
        while not over.is_set():
            await crowd(client, 4, 0.2)

    thread = threading.Thread(target=lambda: asyncio.run(until_over()))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_all_boxes_of_a_demo_are_ticked_for_a_person(tmp_path: Path) -> None:
    with gateway(tmp_path, {}, "--demo") as node:
        done = check(node)
        left = what_checks_have_made(node)

    lines = done.stdout.splitlines()
    titles = [line.split("] ")[1].rpartition(" (")[0] for line in lines if line.startswith("[")]
    assert titles == [box.title for box in BOXES]
    assert [line for line in lines if line.startswith("[ ]") and "performance" not in line] == []
    assert lines[-1] in ("10 of 10 boxes are ticked", "9 of 10 boxes are ticked")
    assert done.stderr == ""
    assert left == []


def test_the_titles_are_the_guide_s_and_the_routes_are_all_there_are() -> None:
    assert len(BOXES) == 10
    assert {path for path, *_ in ROUTES} == {route.path for route in apis.ROUTES}


def test_the_help_names_every_box(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "--help"])

    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert [name for name in NAMES if name not in told] == []


def test_under_load_all_boxes_are_ticked_and_no_request_meets_the_check(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream
) -> None:
    node = serve(FAILOVER_STRATEGY="round_robin")
    client = Client(node.port, ANYBODY)
    with under_load(client):
        found = boxes(check(node, "--json"))

    assert list(found) == NAMES
    assert unticked(found) == {}
    assert set(client.told.ends) == {"whole"}
    assert b"openai:" in (client.expected or b"")  # each answer is this one to the byte: no other provider gave one
    assert (primary.state()["requests"], secondary.state()["requests"]) == (client.told.ok, 0)
    assert what_checks_have_made(node) == []


def test_nothing_of_a_check_is_counted_booked_or_kept_by_the_name_of_its_providers(node: Gateway) -> None:
    before = estimates(node)
    done = check(node, "--json", "--only", "failover", "--only", "breakers", "--only", "errors", "--only", "legacy")
    assert unticked(boxes(done)) == {}

    events = node.ctl("events", "--last", "1000")["events"]
    about = {e["event"] for e in events if "check-" in json.dumps({k: v for k, v in e.items() if k != "action"})}
    stats = node.ctl("failover", "show", "default-chat-service")["failover"]
    assert about <= {"config.changed", "process.restarted", "admin.acted"}
    assert "check-" not in node.health("/metrics").text
    assert stats["requests"] == stats["exhausted"] == 0
    assert node.ctl("cost", "show", "--by", "provider")["costs"] == []
    assert "check-" not in json.dumps(node.ctl("metrics", "all")["metrics"])
    assert estimates(node) == before


def test_how_a_throw_away_provider_is_says_nothing_of_the_node(node: Gateway) -> None:
    where = ["--kind", "openai", "--base-url", "http://127.0.0.1:1/v1", "--key-env", "HOME", "--telemetry", "false"]
    node.ctl("provider", "add", "check-0abcde-first", *where, "--default-model", "check-model")
    node.ctl("group", "create", "check-0abcde", "--members", "check-0abcde-first")
    node.ctl("breaker", "trip", "check-0abcde-first")

    told = [
        node.health().text,
        json.dumps(node.ctl("status")["alerts"]),
        node.ctl_raw("config", "export").stdout,
        httpx.get(f"{node.base_url}/models", **PLAIN).text,
        node.health("/metrics").text,
        json.dumps(node.ctl("failover", "show", "default-chat-service")),
    ]

    assert node.health().json() == {"status": "healthy"}
    assert [text for text in told if "check-" in text] == []


@contextmanager
def running(node: Gateway) -> Iterator[subprocess.Popen[str]]:
    """A check in the middle of its work."""
    process = subprocess.Popen(
        command(node, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        eventually(lambda: len(what_checks_have_made(node)) > 10, "it has made its providers and groups", 30)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_a_killed_check_has_left_the_next_one_takes_away(node: Gateway) -> None:
    with running(node) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    left = what_checks_have_made(node)

    done = check(node, "--json", "--only", "legacy")

    assert left
    assert boxes(done)["legacy"]["ok"], done.stdout
    assert "was left by a check before" in done.stderr
    assert what_checks_have_made(node) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_check_leaves_nothing_behind(node: Gateway, number: signal.Signals) -> None:
    with running(node) as process:
        process.send_signal(number)
        _, told = process.communicate(timeout=60)

    assert process.returncode == 130
    assert told == ""
    assert what_checks_have_made(node) == []


def test_a_provider_that_an_operator_has_named_so_is_left_alone(node: Gateway, primary: Upstream) -> None:
    with_key = ["--kind", "compatible", "--base-url", primary.url, "--default-model", "m"]
    node.ctl("provider", "add", "check-mate", *with_key)

    check(node, "--only", "legacy")

    assert node.provider("check-mate")["status"] == "up"


def test_two_checks_of_one_node_are_one_too_many(node: Gateway) -> None:
    with running(node) as process:
        process.send_signal(signal.SIGSTOP)
        second = check(node, "--json")
        process.send_signal(signal.SIGCONT)

    assert second.returncode == 5
    assert json.loads(second.stdout)["error"]["code"] == "conflict"


BROKEN: list[tuple[str, dict[str, str], str, str]] = [
    (
        "failover",
        {"RUNESTONE_PROVIDER_MODE": "legacy"},
        "legacy mode: there is no failover",
        "runestone ctl mode enhanced",
    ),
    (
        "breakers",
        {"OPENAI_CIRCUIT_BREAKER": "false"},
        "the breaker of openai-default only measures",
        "runestone ctl provider set openai-default --circuit-breaker true",
    ),
    (
        "endpoints",
        {"OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": ""},
        "nobody in default-chat-service takes requests (openai-default: missing_api_key: set OPENAI_API_KEY",
        "runestone config check",
    ),
    (
        "endpoints",
        {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1/v1"},
        "anthropic-default the connection failed",
        "runestone ctl health check anthropic-default",
    ),
]


@pytest.mark.parametrize(("box", "environment", "why", "helps"), BROKEN, ids=[row[2][:30] for row in BROKEN])
def test_a_node_in_which_one_thing_is_wrong_fails_that_box_alone_and_says_what_helps(
    serve: Callable[..., Gateway], box: str, environment: dict[str, str], why: str, helps: str
) -> None:
    node = serve(**environment)

    done = check(node, "--json")

    found = boxes(done)
    assert list(unticked(found)) == [box], unticked(found)
    assert why in found[box]["detail"]
    assert found[box]["command"] == helps
    assert done.returncode == 4
    assert what_checks_have_made(node) == []


def test_a_tripped_breaker_is_told_with_what_closes_it(node: Gateway) -> None:
    node.ctl("breaker", "trip", "openai-default")

    done = check(node, "--only", "breakers")

    assert done.returncode == 4
    assert "[ ] Circuit breakers" in done.stdout
    assert "-> runestone ctl breaker reset openai-default" in done.stdout


def test_a_node_with_keys_is_checked_with_one_of_them_and_without_one_as_far_as_that_goes(
    serve: Callable[..., Gateway],
) -> None:
    node = serve(RUNESTONE_API_KEYS="sk-client-0123456789")

    without = check(node, "--json")
    with_it = check(node, "--json", "--only", "endpoints", "--key-env", "ITS_KEY", ITS_KEY="sk-client-0123456789")
    unset = check(node, "--key-env", "NO_SUCH_VARIABLE")
    unknown = check(node, "--key-env", "ITS_KEY", ITS_KEY="sk-of-somebody-else")

    assert unticked(boxes(without)) == {}
    assert "--key-env" in boxes(without)["endpoints"]["detail"]
    assert "routes of http" in boxes(with_it)["endpoints"]["detail"]
    assert (unknown.returncode, "does not know the key" in unknown.stderr) == (1, True)
    assert (unset.returncode, "NO_SUCH_VARIABLE" in unset.stderr) == (2, True)
    assert "sk-client" not in without.stdout + with_it.stdout + node.told()


def test_only_the_boxes_that_are_named_are_tried(node: Gateway) -> None:
    found = boxes(check(node, "--json", "--only", "health", "--only", "telemetry"))

    assert list(found) == ["health", "telemetry"]
    assert check(node, "--only", "no-such-box").returncode == 2


def test_nobody_there_is_69(tmp_path: Path) -> None:
    for path in (tmp_path / "none.sock", tmp_path / "no" / "folder.sock"):
        done = subprocess.run(
            [sys.executable, "-m", "runestone", "check", "--json", "--socket", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 69
        assert json.loads(done.stdout)["error"]["code"] == "unreachable"
        assert "Traceback" not in done.stderr


def test_real_providers_get_no_call_that_costs(node: Gateway, primary: Upstream, secondary: Upstream) -> None:
    before = [node.provider(name) for name in ("openai-default", "anthropic-default")]

    found = boxes(check(node, "--json"))

    after = [node.provider(name) for name in ("openai-default", "anthropic-default")]
    assert unticked(found) == {}
    assert (primary.state()["requests"], secondary.state()["requests"]) == (0, 0)
    assert primary.state()["lists"] > 0
    for one, other in zip(before, after, strict=True):
        same = ("incarnation", "calls", "failures", "health_score", "last_error", "breaker")
        assert {key: one[key] for key in same} == {key: other[key] for key in same}
