"""The log of a real process: a line for each request, in the request's own words, from a node that never waits for who reads it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.raw import BODY, refusals, request
from tests.e2e.streams import HELLO, streams

WHOLE = {**HELLO, "stream": False}


def records(node: Gateway) -> list[dict[str, Any]]:
    return [json.loads(line) for line in node.told().splitlines()]


def access(node: Gateway, request_id: str) -> dict[str, Any]:
    """The access line of that request; there must be one alone."""

    def found() -> list[dict[str, Any]]:
        return [r for r in records(node) if r["event"] == "request" and r["request_id"] == request_id]

    (line,) = eventually(found, f"there is a line for {request_id}")
    return dict(line)


def test_a_streamed_request_that_failed_over_has_one_line_that_tells_all(
    serve: Callable[..., Gateway], primary: Upstream, tmp_path: Path
) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text('[prices."claude-sonnet-4-5"]\ninput_per_million_usd = "3"\noutput_per_million_usd = "15"\n')
    node = serve("--config", str(file), RUNESTONE_API_KEYS="a-key-for-tests", RETRY_MAX_ATTEMPTS="1")
    primary.fault("503")

    answer = node.post(HELLO, {"x-request-id": "one-of-mine", "authorization": "Bearer a-key-for-tests"})
    assert answer.headers["x-runestone-provider"] == "anthropic-default"

    line = access(node, "one-of-mine")
    assert {k: line[k] for k in ("level", "route", "asked", "provider", "status", "outcome", "attempts", "stream")} == {
        "level": "INFO",
        "route": "/v1/chat/completions",
        "asked": "gpt-4o-mini",
        "provider": "anthropic-default",
        "status": 200,
        "outcome": "ok",
        "attempts": 2,
        "stream": True,
    }
    assert line["key"]
    assert line["group"] == "default-chat-service"
    assert line["model"].startswith("claude-")
    assert 0 < line["ttft_ms"] <= line["duration_ms"]
    assert 0 <= line["overhead_ms"] < line["duration_ms"]
    assert line["tokens_in"] > 0
    assert line["tokens_out"] > 0
    assert line["cost_usd"] == (line["tokens_in"] * 3 + line["tokens_out"] * 15) / 1e6

    def about() -> list[str]:
        return [r["event"] for r in records(node) if r.get("request_id") == "one-of-mine"]

    eventually(lambda: len(about()) == 4, lambda: str(about()))  # at DEBUG, its calls too
    assert about() == ["attempt.finished", "failover", "request", "attempt.finished"]


def test_streams_that_the_removal_of_their_provider_waited_for_have_their_prices(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault("pace=0.05 tokens=20")

    async def scene() -> None:
        async with streams(node) as crowd:
            await crowd.start(20)
            await asyncio.to_thread(node.ctl, "provider", "remove", "openai-default")
            await crowd.finish()
        assert all(s.whole for s in crowd.all)

    anyio.run(scene)

    def told() -> list[dict[str, Any]]:
        return [r for r in records(node) if r["event"] == "request"]

    eventually(lambda: len(told()) == 20, "their lines are there")
    assert {line["provider"] for line in told()} == {"openai-default"}
    assert [line["request_id"] for line in told() if not line["cost_usd"]] == []


def test_what_was_refused_and_what_failed_are_one_line_each_without_a_traceback(
    node: Gateway, primary: Upstream, secondary: Upstream
) -> None:
    for upstream in (primary, secondary):
        upstream.fault("503")

    assert node.post(WHOLE, {"x-request-id": "failed"}).status_code == 502
    assert node.post({**WHOLE, "messages": []}, {"x-request-id": "refused"}).status_code == 400

    assert access(node, "failed")["outcome"] == "server_error"
    line = access(node, "refused")
    assert (line["status"], line["outcome"], line["asked"], line["attempts"]) == (400, "missing_messages", None, 0)
    assert not [r for r in records(node) if "trace" in r or "Traceback" in r["event"]]


def test_a_client_that_leaves_has_its_line(node: Gateway, primary: Upstream) -> None:
    primary.fault("stall")
    asked = request("x-request-id: gone", f"content-length: {len(BODY)}")
    with socket.create_connection(("127.0.0.1", node.port)) as client:
        client.sendall(asked)
        eventually(primary.requests, "it has arrived")

    line = access(node, "gone")

    assert (line["outcome"], line["status"], line["provider"]) == ("client_gone", None, None)


def test_the_lines_of_requests_can_be_turned_off_and_on_while_it_runs(
    serve: Callable[..., Gateway], tmp_path: Path
) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text("[log]\naccess = false\n")
    node = serve("--config", str(file))
    node.post(WHOLE, {"x-request-id": "quiet"})
    file.write_text("[log]\naccess = true\n")
    assert node.ctl("config", "reload")["done"] == ["access log: changed"]
    node.post(WHOLE, {"x-request-id": "loud"})

    access(node, "loud")
    assert [r["request_id"] for r in records(node) if r["event"] == "request"] == ["loud"]


def test_the_level_changes_by_the_console_and_a_wrong_one_changes_nothing(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_LOG_LEVEL="WARNING")
    node.post(WHOLE, {"x-request-id": "before"})

    done = node.ctl_raw("log", "level", "debug")
    node.post(WHOLE, {"x-request-id": "after"})
    wrong = node.ctl_raw("log", "level", "loud")

    assert (done.returncode, done.stdout) == (
        0,
        "level  DEBUG\ndone: log level: changed\nlog.level: WARNING -> DEBUG\n",
    )
    assert wrong.returncode == 78
    assert "loud" in wrong.stderr
    access(node, "after")
    assert not [r for r in records(node) if r.get("request_id") == "before"]
    assert [r for r in records(node) if r.get("request_id") == "after" and r["level"] == "DEBUG"]


def _stuck(tmp_path: Path, primary: Upstream) -> tuple[Gateway, int]:
    """A gateway whose standard error is a pipe that is full, and that nobody reads."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    environment = {
        "PATH": os.environ["PATH"],
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock"),
        "RUNESTONE_MAX_LOOP_LAG_MS": "0",
        "RUNESTONE_DRAIN_TIMEOUT_MS": "0",
        "OPENAI_API_KEY": "sk-upstream-openai",
        "OPENAI_BASE_URL": primary.url,
    }
    process = subprocess.Popen([sys.executable, "-m", "runestone", "serve"], env=environment, stderr=write)
    os.close(write)
    log = tmp_path / "nothing"
    log.touch()
    return Gateway.ready(process, tmp_path / "admin.sock", log), read


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="pipes have one size here")
def test_a_pipe_that_nobody_reads_slows_no_request_and_what_is_lost_is_counted(
    tmp_path: Path, primary: Upstream
) -> None:
    node, read = _stuck(tmp_path, primary)
    try:
        refusals(node, 12_000)  # the queue, what the thread has in hand, and what the pipe holds are less

        dropped = eventually(lambda: node.ctl("status")["dropped"]["log_lines"], "lines are dropped")
        assert 0 < dropped < 12_000
        assert node.post(WHOLE).status_code == 200
        assert node.stop(signal.SIGTERM, 20) == 0
    finally:
        node.process.kill()
        node.process.wait()
        os.close(read)
