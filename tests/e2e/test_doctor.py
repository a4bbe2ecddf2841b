"""The doctor of a real node: trouble is made, found, and gone once the command that it has printed was run."""

from __future__ import annotations

import asyncio
import os
import resource
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from runestone.api import RemoteNode, TelemetryHandler
from runestone.console.client import AdminClient
from tests.e2e.node import Gateway, Upstream, eventually, gateway
from tests.e2e.streams import HELLO
from tests.support.forked import carried_out
from tests.support.plain import PLAIN

WHOLE: Final = {**HELLO, "stream": False}
BUSY: Final = frozenset({"loop_lag", "short_memory", "slow"})  # what a machine with other work may add


def findings(node: Gateway) -> dict[str, dict[str, Any]]:
    """By their rules."""
    return {one["rule"]: one for one in node.ctl("doctor", check=False)["findings"]}


def found(node: Gateway, rule: str) -> dict[str, Any]:
    return dict(eventually(lambda: findings(node).get(rule), lambda: f"{rule} in {findings(node)}"))


def gone(node: Gateway, rule: str) -> None:
    eventually(lambda: rule not in findings(node), lambda: f"{rule} is gone from {findings(node)}")


def run(node: Gateway, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run what the doctor has printed, as somebody would on the node's machine."""
    words = shlex.split(command)
    variables = {**os.environ, "RUNESTONE_ADMIN_SOCKET": str(node.socket), **environment}
    if words[0] == "runestone":
        return carried_out(*words[1:], env=variables)
    return subprocess.run(words, env=variables, capture_output=True, text=True, timeout=60, check=False)


def mended(node: Gateway, rule: str, level: str, **environment: str) -> None:
    """It is found, its command is run, and it is gone."""
    finding = found(node, rule)
    assert finding["level"] == level
    assert (node.ctl_raw("doctor").returncode == 4) >= (level == "error")
    for _ in range(3):  # where several have the same trouble, each is told in its turn
        done = run(node, finding["command"], **environment)
        assert done.returncode == 0, (finding, done)
        if (left := findings(node).get(rule)) is None or left["command"] == finding["command"]:
            break
        finding = left
    gone(node, rule)


def test_a_fresh_demo_has_warnings_and_no_error(tmp_path: Path) -> None:
    with gateway(tmp_path, {}, "--demo") as node:
        person, script = node.ctl_raw("doctor"), node.ctl("doctor")

        assert (person.returncode, person.stderr) == (0, "")
        assert script["healthy"] is True
        assert node.ctl_raw("doctor", "-o", "name").stdout.splitlines() == [f["rule"] for f in script["findings"]]
        levels = {one["rule"]: one["level"] for one in script["findings"]}
        assert {k: v for k, v in levels.items() if k not in BUSY} == {"no_inbound_keys": "warning", "demo": "info"}
        assert "WARNING  no_inbound_keys: no inbound keys are set" in person.stdout
        assert "         runestone config explain keys.NAME.key" in person.stdout
        assert run(node, findings(node)["no_inbound_keys"]["command"]).returncode == 0


def test_what_operators_leave_behind_is_found_and_mended_by_what_is_printed(
    serve: Callable[..., Gateway], tmp_path: Path, primary: Upstream
) -> None:
    node = serve("--allow-faults", RUNESTONE_LOG_LEVEL="INFO", RETRY_MAX_ATTEMPTS="1")
    before = findings(node).keys() - BUSY
    key = tmp_path / "key"
    key.write_text("sk-somewhere-else")

    node.ctl("breaker", "trip", "openai-default")
    mended(node, "breaker_forced_open", "error")

    node.ctl("actor", "suspend", "failover")
    assert "runestone/node/failover is suspended" in found(node, "actor_suspended")["message"]
    mended(node, "actor_suspended", "warning")
    assert node.post(WHOLE).status_code == 200

    node.ctl("mode", "legacy")
    mended(node, "legacy_mode", "warning")

    node.ctl("log", "level", "debug")
    mended(node, "log_level", "info")

    node.ctl("fault", "openai-default", "503")
    mended(node, "fault_on", "warning")

    for word, rule in (("drain", "draining"), ("maint", "maintenance")):
        node.ctl("provider", word, "openai-default")
        mended(node, rule, "warning")

    node.ctl("drain")
    mended(node, "node_draining", "warning")
    assert node.post(WHOLE).status_code == 200

    far = ["--kind", "openai", "--base-url", "http://192.0.2.1:9/v1", "--key-file", str(key)]
    node.ctl("provider", "add", "far", *far)
    mended(node, "plain_http", "warning")
    assert node.provider("far")["base_url"] == "https://192.0.2.1:9/v1"
    node.ctl("provider", "remove", "far")

    for _ in range(3):
        node.ctl("crash", "provider:anthropic-default")
        eventually(lambda: node.provider("anthropic-default")["status"] == "up", "it is back")
    mended(node, "restarts_again", "warning")

    eventually(
        lambda: findings(node).keys() - BUSY - {"supervisor_gave_up", "restart_storm"} == before,
        lambda: str(findings(node)),
    )


def test_what_providers_do_is_found_and_mended_by_what_is_printed(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(RETRY_MAX_ATTEMPTS="1", CIRCUIT_BREAKER_FAILURE_THRESHOLD="2")
    pinned = {**WHOLE, "model": "openai-default/gpt-4o-mini"}

    primary.fault("503")
    for _ in range(2):
        node.post(pinned)
    primary.fault("none")
    mended(node, "breaker_open", "warning")
    assert node.post(pinned).status_code == 200

    primary.fault("401 times=1")
    node.post(pinned)
    assert found(node, "quarantined")["command"].endswith("provider set openai-default --key-env VARIABLE")
    mended(node, "quarantined", "error", VARIABLE="sk-another-key")
    assert node.post(pinned).status_code == 200

    node.ctl("provider", "set", "openai-default", "--max-concurrency", "1")
    primary.fault("stall after=3")
    with httpx.stream("POST", f"{node.base_url}/chat/completions", json={**HELLO, "model": pinned["model"]}, **PLAIN):
        mended(node, "saturated", "warning")


def test_changes_at_run_time_are_found_until_the_file_has_them(serve: Callable[..., Gateway], tmp_path: Path) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text("")
    node = serve("--config", str(file))
    node.ctl("group", "create", "mine", "--members", "openai-default")

    finding = found(node, "unsaved_changes")
    assert "groups.mine.members" in finding["message"]
    assert str(file) in finding["message"]
    (change,) = node.ctl("config", "diff")["changes"]
    assert (change["before"], change["unsaved"]) == (None, True)
    exported = run(node, finding["command"])
    file.write_text(exported.stdout)
    node.ctl("config", "reload")

    gone(node, "unsaved_changes")
    (change,) = node.ctl("config", "diff")["changes"]
    assert (change["before"], change["unsaved"]) == (["openai-default"], False)
    assert node.ctl("status")["unsaved"] == {"changes": 0, "needs_restart": []}


def test_what_was_before_a_change_is_told_though_nobody_had_set_it(
    serve: Callable[..., Gateway], tmp_path: Path
) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text("[failover]\nmax_attempts = 2\n")
    node = serve("--config", str(file))
    for words in (
        ["provider", "set", "openai-default", "--timeout", "3s", "--max-concurrency", "4"],
        ["breaker", "set", "openai-default", "--failure-threshold", "9"],
        ["group", "create", "mine", "--members", "openai-default"],
        ["failover", "set-strategy", "default-chat-service", "fastest_first"],
        ["group", "set", "cost-optimized-service", "--max-attempts", "1"],
        ["mode", "legacy"],
        ["log", "level", "error", "--for", "10m"],
    ):
        node.ctl(*words)

    told = node.ctl("config", "diff")["changes"]
    changes = {c["key"]: (c["before"], c["before_origin"]) for c in told}
    lines = {line.split()[0]: line for line in node.ctl_raw("config", "diff").stdout.splitlines()}

    assert changes == {
        "breakers.openai-default.failure_threshold": (5, "default"),
        "groups.cost-optimized-service.max_attempts": (2, "runestone.toml:2"),
        "groups.default-chat-service.strategy": ("priority", "env:FAILOVER_STRATEGY"),
        "groups.mine.members": (None, None),
        "log.level": ("DEBUG", None),
        "providers.openai-default.max_concurrency": (None, "default"),
        "providers.openai-default.timeout_ms": (120_000, "default"),
        "server.mode": ("enhanced", "default"),
    }
    assert {c["key"]: c["value"] for c in told}["providers.openai-default.timeout_ms"] == 3000  # as its default is told
    assert "120000 (default)" in lines["providers.openai-default.timeout_ms"]
    assert "(default)" not in lines["groups.mine.members"]


def test_a_file_that_was_refused_or_needs_a_new_start_is_found(serve: Callable[..., Gateway], tmp_path: Path) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text("")
    node = serve("--config", str(file))
    file.write_text("[server]\nportt = 1\n")
    node.ctl("config", "reload", check=False)

    refused = found(node, "config_refused")
    told = run(node, refused["command"], RUNESTONE_CONFIG=str(file))
    assert told.returncode == 78
    assert "did you mean port" in told.stderr
    file.write_text("[events]\nkeep = 50\n")
    node.ctl("config", "reload")
    gone(node, "config_refused")

    assert "events.keep" in found(node, "needs_restart")["message"]
    assert "needs a restart of the process: events.keep" in run(node, findings(node)["needs_restart"]["command"]).stdout
    assert node.ctl("status")["unsaved"] == {"changes": 0, "needs_restart": ["events.keep"]}
    file.write_text("")
    node.ctl("config", "reload")
    gone(node, "needs_restart")


def test_settings_that_multiply_load_or_outlast_the_deadline_are_found(serve: Callable[..., Gateway]) -> None:
    node = serve(RETRY_MAX_ATTEMPTS="20", OPENAI_TIMEOUT="700000")

    mended(node, "many_calls", "warning")
    mended(node, "timeouts_beyond_deadline", "warning")


def test_no_provider_at_all_is_an_error(serve: Callable[..., Gateway]) -> None:
    node = serve(OPENAI_API_KEY="", ANTHROPIC_API_KEY="")

    assert node.ctl_raw("doctor").returncode == 4
    assert (findings(node)["no_provider"]["level"], findings(node)["missing_api_key"]["level"]) == ("error", "error")


def test_one_missing_key_of_two_is_a_warning(serve: Callable[..., Gateway]) -> None:
    node = serve(ANTHROPIC_API_KEY="")

    assert node.ctl_raw("doctor").returncode == 0
    assert findings(node)["missing_api_key"]["level"] == "warning"
    assert findings(node)["no_failover"]["level"] == "info"


def test_a_model_in_use_without_a_price_is_found_until_it_has_one(
    serve: Callable[..., Gateway], tmp_path: Path
) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text("")
    node = serve("--config", str(file))
    odd = {**WHOLE, "model": "openai-default/own-model-7"}
    assert node.post(odd).status_code == 200

    assert "'own-model-7'" in found(node, "unknown_price")["message"]
    assert run(node, findings(node)["unknown_price"]["command"]).returncode == 0
    file.write_text("[prices.own-model-7]\ninput_per_million_usd = 1\noutput_per_million_usd = 2\n")
    node.ctl("config", "reload")
    node.post(odd)

    gone(node, "unknown_price")


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
def test_a_process_that_runs_out_of_descriptors_is_found(node: Gateway) -> None:
    _, hard = resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)
    before = node.descriptors()
    with ExitStack() as clients:
        for _ in range(100):
            clients.enter_context(socket.create_connection(("127.0.0.1", node.port)))
        eventually(lambda: node.descriptors() >= before + 90, "they are accepted")
        resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (node.descriptors() + 15, hard))

        mended(node, "descriptors", "error")


def test_a_node_that_has_nearly_all_connections_it_may_have_is_found(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_MAX_CONNECTIONS="10")
    with ExitStack() as clients:
        for _ in range(8):
            clients.enter_context(socket.create_connection(("127.0.0.1", node.port)))
        finding = found(node, "max_connections")
        assert run(node, finding["command"]).returncode == 0
        assert node.ctl("actor", "show", "public")["actor"]["status"] == {"connections": 8, "most connections": 10}

    gone(node, "max_connections")


def test_from_python_it_is_the_same(node: Gateway) -> None:
    async def remotely() -> list[str]:
        async with RemoteNode(node.socket) as remote:
            return [finding["rule"] for finding in await TelemetryHandler(remote).examine()]

    AdminClient(node.socket).request("POST", "/v1/breakers/openai-default/trip")

    assert asyncio.run(remotely())[0] == "breaker_forced_open"


@pytest.mark.parametrize("listener", ["public", "health", "admin"])
def test_every_listener_tells_of_itself(node: Gateway, listener: str) -> None:
    told = node.ctl("actor", "show", listener)["actor"]

    assert told["state"] == "running"
    assert (told["status"].keys() == {"connections", "most connections"}) == (listener != "health")
    assert "busy" not in told
