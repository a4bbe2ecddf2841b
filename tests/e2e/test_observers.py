"""Who may do what by which socket: everything by the admin socket, looking alone by that for observers, nothing for anybody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runestone.console.table import COMMANDS
from tests.e2e.node import Gateway, gateway
from tests.support.forked import carried_out

NOBODY, GROUP = 65534, 4711
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
_PROGRAM = """
import os, sys
from runestone.check import command
from runestone.cli import main
from runestone.console import ctl, options
os.setgroups([int(sys.argv[2])] if sys.argv[2] != "-" else [])
os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture
def shared() -> Iterator[Gateway]:
    """A node whose directory a group may pass."""
    above = Path(tempfile.mkdtemp(prefix="runestone-"))
    above.chmod(0o755)
    folder = above / "run"
    folder.mkdir(mode=0o750)
    os.chown(folder, -1, GROUP)
    try:
        with gateway(folder, {"RUNESTONE_OBSERVE_GROUP": str(GROUP)}, "--demo") as node:
            yield node
    finally:
        shutil.rmtree(above)


def as_nobody(*words: str, group: int | None, program: str = "ctl") -> subprocess.CompletedProcess[str]:
    """``runestone ctl``, or another ``program`` of it, as another user, who is in ``group``."""
    command = [sys.executable, "-c", _PROGRAM, str(NOBODY), "-" if group is None else str(group), program, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@as_root
def test_another_user_is_refused_with_77(shared: Gateway) -> None:
    for socket in (shared.socket, shared.socket.with_name("observe.sock")):
        for words in (["status"], ["breaker", "trip", "openai-default"]):
            done = as_nobody("--socket", str(socket), "--json", *words, group=None)

            assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (77, "denied")
            assert "Permission denied" in done.stderr
            assert "Traceback" not in done.stderr


@as_root
@pytest.mark.parametrize("group", [None, GROUP])
def test_a_check_by_somebody_else_is_refused_with_77(shared: Gateway, group: int | None) -> None:
    person = as_nobody("--socket", str(shared.socket), program="check", group=group)
    script = as_nobody("--socket", str(shared.socket), "--json", program="check", group=group)

    assert (person.returncode, person.stdout, script.returncode) == (77, "", 77)
    assert json.loads(script.stdout)["error"]["code"] == "denied"
    assert "Permission denied" in person.stderr
    assert "Traceback" not in person.stderr
    assert shared.ctl("group", "list", "-o", "json")["groups"]
    assert not [name for name in shared.ctl("status")["providers"] if name.startswith("check-")]


def test_a_check_by_the_socket_for_observers_is_refused_with_77(node: Gateway) -> None:
    command = [sys.executable, "-m", "runestone", "check", "--socket", str(node.socket.with_name("observe.sock"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout) == (77, "")
    assert "observers" in done.stderr


def test_who_asks_the_socket_for_observers_for_stacks_is_told_where_they_are(node: Gateway) -> None:
    observe = str(node.socket.with_name("observe.sock"))
    command = [sys.executable, "-m", "runestone", "ctl", "--socket", observe, "stacks"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout) == (77, "")
    assert "for the admin socket beside it" in done.stderr


@as_root
def test_python_is_told_that_it_may_not(shared: Gateway) -> None:
    program = """
import asyncio, os, sys
from runestone.api import OperationError, RemoteNode
async def ask():
    async with RemoteNode(sys.argv[1]) as node:
        try:
            await node.ask("GET", "/v1/status")
        except OperationError as error:
            print(error.reason)
asyncio.run(ask())  # it is let in, and has imported all: then it may read no file of the installation
os.setgroups([]); os.setgid(65534)
os.setuid(65534)
asyncio.run(ask())
"""
    command = [sys.executable, "-c", program, str(shared.socket)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (done.stdout, done.stderr) == ("denied\n", "")


@as_root
def test_an_observer_looks_and_does_not_act(shared: Gateway) -> None:
    admin = ["--socket", str(shared.socket)]

    looked = as_nobody(*admin, "--json", "status", group=GROUP)
    acted = as_nobody(*admin, "breaker", "trip", "openai-default", group=GROUP)
    forced = as_nobody(
        "--socket", str(shared.socket.with_name("observe.sock")), "breaker", "trip", "openai-default", group=GROUP
    )
    traced = as_nobody(*admin, "trace", "failover", "--max", "1", "--for", "1s", group=GROUP)

    assert (looked.returncode, looked.stderr) == (0, "")
    assert json.loads(looked.stdout)["pid"] == shared.process.pid
    assert [done.returncode for done in (acted, forced, traced)] == [77, 77, 77]
    assert "observers" in forced.stderr + traced.stderr
    assert shared.ctl("breaker", "show", "openai-default")["breaker"]["state"] == "closed"


def test_an_estimate_is_for_observers_and_off_the_record_and_a_real_probe_is_neither(
    node: Gateway, tmp_path: Path
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}))
    observe = ["--socket", str(node.socket.with_name("observe.sock"))]

    estimated = carried_out("ctl", *observe, "--json", "cost", "estimate", "--request", str(file))
    read_only = carried_out("console", *observe, "--read-only", "-c", f"cost estimate --request {file}")
    node.ctl("cost", "estimate", "--request", str(file))
    probed = carried_out("ctl", *observe, "health", "check", "all")
    node.ctl("health", "check", "all")
    file.write_text(json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * 2**20}]}))
    large = carried_out("ctl", *observe, "cost", "estimate", "--request", str(file))

    assert json.loads(estimated.stdout)["costs"]["openai-default"] is not None
    assert (read_only.returncode, read_only.stderr) == (0, "")
    assert (probed.returncode, large.returncode) == (77, 1)
    assert "larger than" in large.stderr
    acts = node.ctl("events", "--name", "admin.acted")["events"]
    assert [(one["action"], one["outcome"]) for one in acts] == [("POST /v1/health/all", "ok")]


def test_the_socket_for_observers_refuses_whatever_acts_or_operates(node: Gateway) -> None:
    transport = httpx.HTTPTransport(uds=str(node.socket.with_name("observe.sock")))
    with httpx.Client(transport=transport, base_url="http://node", timeout=20) as client:
        for command in COMMANDS:
            route = command.route.format(name="openai-default")
            if (command.method == "POST" and command.path != "cost estimate") or command.path in ("trace", "stacks"):
                answer = client.request(command.method, route, content=b"{}" if command.method == "POST" else None)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "denied"), route
        chat = client.post("/v1/chat", json={"request": {}})
        paths = ("/v1/status", "/v1/tree", "/v1/providers", "/v1/config", "/v1/events")
        looks = [client.get(path) for path in paths]
        explained = client.get("/v1/failover/default-chat-service/explain", params={"model": "gpt-4o-mini"})

    assert chat.status_code == 403
    assert [look.status_code for look in looks] == [200] * 5
    assert explained.json()["explanation"]["candidates"][0]["verdict"] == "first"
    assert node.ctl("events", "--name", "admin.acted")["events"] == []


def test_a_listener_for_observers_that_crashes_comes_back(tmp_path: Path) -> None:
    with gateway(tmp_path, {}, "--demo") as node:
        node.ctl("crash", "observe")

        transport = httpx.HTTPTransport(uds=str(node.socket.with_name("observe.sock")), retries=3)
        with httpx.Client(transport=transport, base_url="http://node", timeout=20) as client:
            assert client.get("/v1/status").json()["listeners"]["observe"].endswith("observe.sock")
        assert node.stop() == 0
        assert not node.socket.with_name("observe.sock").exists()
