"""`logs tail` on a real process: the lines that its log has, from memory, chosen, followed and picked up again."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

from runestone.api import LogPage, Node, OperationError, RemoteNode, TelemetryHandler
from runestone.console.client import AdminClient
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.raw import refusals
from tests.e2e.streams import HELLO

WHOLE: Final = {**HELLO, "stream": False}
CANARY: Final = "never-to-be-seen-in-any-log"


def tail(node: Gateway, *options: str) -> list[dict[str, Any]]:
    return list(node.ctl("logs", "tail", *options)["lines"])


def plain(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "seq"}


def test_the_memory_has_what_the_log_has(node: Gateway, primary: Upstream) -> None:
    primary.fault("503")
    node.post({**WHOLE, "messages": [{"role": "user", "content": CANARY}]}, {"x-request-id": "mine"})
    eventually(lambda: len(tail(node, "--request", "mine")) == 8, lambda: str(tail(node, "--request", "mine")))

    told = tail(node, "-n", "1000")

    def written() -> list[dict[str, Any]]:
        return [json.loads(line) for line in node.told().splitlines()]

    eventually(lambda: len(written()) >= len(told), "the thread has written them")
    assert [plain(line) for line in told] == written()[: len(told)]
    assert [line["seq"] for line in told] == list(range(1, len(told) + 1))
    assert CANARY not in str(told)


def test_lines_are_chosen_by_request_level_and_logger(node: Gateway, primary: Upstream) -> None:
    node.post(WHOLE, {"x-request-id": "other"})
    primary.fault("503")
    node.post(WHOLE, {"x-request-id": "mine"})
    node.ctl("breaker", "trip", "openai-default")
    eventually(lambda: len(tail(node, "--request", "mine")) == 8, "all its lines are there")

    mine = tail(node, "--request", "mine")

    assert {line["request_id"] for line in mine} == {"mine"}
    assert [line["event"] for line in mine if line["level"] == "DEBUG"] == [
        "attempt.finished", "retry", "attempt.finished", "retry", "attempt.finished", "failover", "attempt.finished",
    ]  # fmt: skip
    assert [line["event"] for line in tail(node, "--request", "mine", "--level", "info")] == ["request"]
    grave = tail(node, "--level", "warning")
    assert {line["level"] for line in grave} <= {"WARNING", "ERROR"}
    assert [line["event"] for line in grave if line["logger"] == "runestone.events"] == ["breaker.changed"]
    assert [line["request_id"] for line in tail(node, "--logger", "runestone.access")] == ["other", "mine"]
    assert len(tail(node, "-n", "2")) == 2
    assert "WARNING runestone.events: breaker.changed provider=openai-default" in node.ctl_raw(
        "logs", "tail", "--level", "warning"
    ).stdout  # fmt: skip
    assert node.ctl_raw("logs", "tail", "--level", "loud").returncode == 2
    assert node.ctl_raw("logs", "tail", "-n", "0").returncode == 1


def test_the_log_level_decides_what_there_is(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_LOG_LEVEL="WARNING")
    node.post(WHOLE, {"x-request-id": "before"})
    node.ctl("log", "level", "debug")
    node.post(WHOLE, {"x-request-id": "after"})

    eventually(lambda: tail(node, "--request", "after"), "the lines of the second are there")
    assert tail(node, "--request", "before") == []


def test_follow_tells_what_comes_and_ends_with_130(node: Gateway) -> None:
    ctl = [sys.executable, "-m", "runestone", "ctl", "--socket", str(node.socket), "--json"]
    node.post(WHOLE, {"x-request-id": "first"})
    with subprocess.Popen(
        [*ctl, "logs", "tail", "--logger", "runestone.access", "--follow"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as following:  # fmt: skip
        assert following.stdout is not None
        old = json.loads(following.stdout.readline())
        node.post(WHOLE, {"x-request-id": "second"})
        new = json.loads(following.stdout.readline())
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=20)

    assert (old["request_id"], new["request_id"]) == ("first", "second")
    assert (following.returncode, said) == (130, "")


def test_a_reader_that_is_too_slow_loses_lines_which_are_counted_and_the_node_goes_on(node: Gateway) -> None:
    admin = AdminClient(node.socket)
    start = admin.request("GET", "/v1/log/lines", {"limit": 1})["next"]
    refusals(node, 5100)  # each a line, all of them more than are kept

    page = admin.request("GET", "/v1/log/lines", {"since": start})

    assert page["missed"] >= 100
    assert page["lines"][0]["seq"] == start + page["missed"] + 1
    assert len(page["lines"]) == 1000
    assert node.post(WHOLE).status_code == 200


def test_from_python_it_is_the_same_and_a_node_inside_says_whose_log_it_is(node: Gateway, tmp_path: Any) -> None:
    node.post(WHOLE, {"x-request-id": "mine"})
    eventually(lambda: tail(node, "--request", "mine"), "it is there")

    async def remotely() -> LogPage:
        async with RemoteNode(node.socket) as remote:
            return await TelemetryHandler(remote).get_log(level="info", request="mine", limit=5)

    async def inside() -> str:
        ports = {"RUNESTONE_PORT": "0", "RUNESTONE_HEALTH_PORT": "0", "RUNESTONE_LEDGER_URL": "none"}
        environ = {**ports, "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "inside.sock")}
        async with Node(environ=environ, demo=True) as here:
            with pytest.raises(OperationError) as refused:
                await TelemetryHandler(here).get_log()
            return refused.value.reason

    page = asyncio.run(remotely())

    assert [line["event"] for line in page["lines"]] == ["request"]
    assert asyncio.run(inside()) == "unavailable"
