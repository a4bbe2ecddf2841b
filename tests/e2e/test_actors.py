"""Single actors of a running gateway, from the console: looked at, suspended, restarted, traced; and stacks while the loop is stuck."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from runestone.api import Actors, Node, OperationError, RemoteNode
from runestone.console.client import AdminClient
from tests.e2e.load import Client, crowd
from tests.e2e.node import Gateway, Upstream, eventually, needs_curl
from tests.e2e.streams import HELLO, streams

WHOLE = {**HELLO, "stream": False}
CANARY = "canary0123456789"
FAILOVER = "runestone/node/failover"
pytestmark = pytest.mark.anyio
RESTARTED = (
    "failover",
    "telemetry",
    "roster",
    "provider:openai-default",
    "transport:openai-default",
    "runestone/node/fleet/providers/openai-default",
    "fleet/providers",
    "fleet",
    "configuration",
    "operations",
    "admin",
    "public",
    "stacks",
)


def start(node: Gateway, *arguments: str) -> subprocess.Popen[str]:
    """``ctl`` that goes on beside the test."""
    command = [sys.executable, "-m", "runestone", "ctl", "--socket", str(node.socket), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def depth(node: Gateway, actor: str = "failover") -> int:
    """How many messages wait for it."""
    return int(node.ctl("actor", "show", actor)["actor"]["mailbox"]["depth"])


def lines(text: str) -> list[dict[str, Any]]:
    """NDJSON."""
    return [json.loads(line) for line in text.splitlines()]


# -- how they speak


def test_every_verb_about_actors_speaks_to_people_and_to_scripts(serve: Callable[..., Gateway]) -> None:
    node = serve("--allow-faults")
    for command in (
        ["actor", "show", "failover"],
        ["actor", "show", "fleet"],
        ["actor", "state", FAILOVER],
        ["actor", "suspend", "failover", "--for", "500ms"],
        ["actor", "resume", "failover"],
        ["actor", "restart", "failover"],
        ["top", "--for", "10ms"],
        ["top", "--sort", "busy", "-n", "3", "--for", "10ms"],
        ["trace", "public", "--max", "1", "--for", "10s"],
        ["stacks"],
        ["stacks", "--task", "runestone/node/*"],
        ["block", "--for", "10ms"],
        ["tree", "fleet", "--depth", "2"],
    ):
        person, script = node.ctl_raw(*command), node.ctl_raw("--json", *command)

        assert (person.returncode, script.returncode) == (0, 0), (command, person.stderr, script.stderr)
        assert person.stdout.strip()
        assert (person.stderr, script.stderr) == ("", "")
        assert all(line["v"] == 1 for line in lines(script.stdout))


def test_a_refusal_about_an_actor_has_its_exit_code_and_says_why(node: Gateway) -> None:
    for command, code, says in (
        (["actor", "show", "failovr"], 3, "did you mean failover?"),
        (["actor", "state", "nobody/at/all"], 3, "no actor"),
        (["actor", "restart", "provider"], 5, "may be one of"),
        (["actor", "restart", "runestone"], 1, "restart the process"),
        (["actor", "restart", "state"], 1, "restart the process"),
        (["actor", "restart", "requests"], 1, "restart the process"),
        (["actor", "restart", "servers/health"], 1, "no child"),
        (["actor", "suspend", "servers/health"], 1, "no mailbox"),
        (["actor", "suspend", "failover", "--for", "2h"], 1, "3600 at most"),
        (["actor", "suspend", "failover", "--for", "soon"], 2, "--for"),
        (["actor", "suspend", "failover", "--for", "-1s"], 2, "--for"),
        (["trace", "failover"], 2, "--max, --for"),
        (["trace", "nobody", "--max", "1", "--for", "1s"], 3, "no actor"),
        (["trace", "failover", "--max", "0", "--for", "1s"], 1, "max must be"),
        (["trace", "failover", "--max", "10001", "--for", "1s"], 1, "10000 at most"),
        (["top", "--sort", "beauty"], 2, "--sort"),
        (["stacks", "--task", "nobody"], 3, "no task"),
        (["tree", "nobody"], 3, "no actor"),
        (["tree", "--depth", "-1"], 1, "depth must be"),
        (["block"], 1, "--allow-faults"),
    ):
        person = node.ctl_raw(*command)

        assert (person.returncode, person.stdout) == (code, ""), (command, person)
        assert says in person.stderr, (command, person.stderr)


@needs_curl
@pytest.mark.parametrize("query", ["max=5", "seconds=1", "max=x&seconds=1", "max=5&seconds=inf"])
def test_a_trace_without_its_limits_is_refused(node: Gateway, query: str) -> None:
    url = f"http://x/v1/actors/failover/trace?{query}"
    answer = subprocess.run(["curl", "-s", "--unix-socket", str(node.socket), url], capture_output=True, check=True)

    assert json.loads(answer.stdout)["error"]["code"] == "refused"


def test_an_actor_is_found_by_name_by_path_and_by_the_end_of_its_path(node: Gateway) -> None:
    for name, path in (
        ("failover", FAILOVER),
        (FAILOVER, FAILOVER),
        ("node/failover", FAILOVER),
        ("provider:openai-default", "runestone/node/fleet/providers/openai-default/provider"),
        ("openai-default/provider", "runestone/node/fleet/providers/openai-default/provider"),
        ("public", "runestone/node/public"),
    ):
        shown = node.ctl("actor", "show", name)["actor"]
        assert (shown["path"], shown["state"], shown["incarnation"]) == (path, "running", 1)


def test_a_part_of_the_tree_is_drawn_to_a_depth(node: Gateway) -> None:
    whole, one = node.ctl("tree", "fleet")["tree"], node.ctl("tree", "fleet", "--depth", "1")["tree"]

    assert [child["id"] for child in whole["children"]] == ["providers", "roster"]
    assert whole["children"][0]["children"]
    assert (one["id"], one["children"]) == ("fleet", [])


# -- suspend


async def test_a_suspended_failover_makes_requests_wait_and_loses_none_and_no_stream(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault("pace=0.1 tokens=40")
    async with streams(node) as crowd_:
        await crowd_.start(5)
        await asyncio.to_thread(node.ctl, "actor", "suspend", "failover", "--for", "60s")
        waiting = [asyncio.create_task(asyncio.to_thread(node.post, WHOLE)) for _ in range(5)]
        late = asyncio.create_task(crowd_.start(5))
        await asyncio.to_thread(eventually, lambda: depth(node) == 10, "ten requests wait", 20)
        told = await asyncio.to_thread(node.ctl, "actor", "show", "failover")
        top = await asyncio.to_thread(node.ctl, "top", "--sort", "mailbox", "-n", "1", "--for", "10ms")
        served_before = [task.done() for task in waiting]
        drawn = (await asyncio.to_thread(node.ctl_raw, "tree")).stdout

        resumed = await asyncio.to_thread(node.ctl, "actor", "resume", "failover")
        answers = await asyncio.gather(*waiting)
        await late
        ended = await crowd_.finish()

    assert told["actor"]["state"] == "suspended"
    assert 0 < told["actor"]["resumes_in_seconds"] <= 60
    assert "failover SUSPENDED mailbox=10" in drawn
    assert [(row["path"], row["state"], row["mailbox"]) for row in top["actors"]] == [(FAILOVER, "suspended", 10)]
    assert served_before == [False] * 5
    assert (resumed["state"], resumed["resumes_in_seconds"]) == ("running", None)
    assert [answer.status_code for answer in answers] == [200] * 5
    assert [stream.whole for stream in ended] == [True] * 10


def test_a_suspension_ends_by_itself_and_the_request_that_waited_is_served(node: Gateway) -> None:
    node.ctl("actor", "suspend", "failover", "--for", "1500ms")

    answer = node.post(WHOLE)  # nobody resumes

    shown = node.ctl("actor", "show", "failover")["actor"]
    assert answer.status_code == 200
    assert (shown["state"], shown["resumes_in_seconds"]) == ("running", None)
    assert shown["incarnation"] == 1


@pytest.mark.long
def test_an_edit_that_meets_a_suspended_actor_says_which_it_is_and_stands(node: Gateway) -> None:
    node.ctl("actor", "suspend", "failover", "--for", "120s")
    done = node.ctl_raw("failover", "set-strategy", "default-chat-service", "fastest_first")
    node.ctl("actor", "resume", "failover")

    assert done.returncode == 6
    assert "failover did not answer within 30 s; it is set" in done.stderr
    eventually(
        lambda: node.ctl("failover", "show", "default-chat-service")["failover"]["strategy"] == "fastest_first",
        "it is in force",
    )


# -- restart


async def test_restarts_by_hand_under_streams_drop_none_and_print_both_incarnations(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault("pace=0.5 tokens=40")
    told, answers = [], []
    async with streams(node) as crowd_:
        await crowd_.start(10)
        for name in RESTARTED:
            route = f"/v1/actors/{quote(name, safe='')}/restart"
            told.append(await asyncio.to_thread(AdminClient(node.socket).request, "POST", route))
            answers.append(await asyncio.to_thread(node.post, {**WHOLE, "model": "claude-sonnet-4-5"}))
        under_way = [not stream.whole for stream in crowd_.all]
        await crowd_.start(2)
        ended = await crowd_.finish()

    assert under_way == [True] * 10
    assert [stream.whole for stream in ended] == [True] * 12
    assert {answer.status_code for answer in answers} == {200}
    assert all(one["incarnation"] == one["incarnation_before"] + 1 for one in told[:4])
    assert all(one["incarnation"] > one["incarnation_before"] or one["incarnation"] == 1 for one in told)
    assert node.ctl_raw("actor", "restart", "failover").stdout == f"{FAILOVER}: incarnation 2 -> 3\n"


def test_a_crash_on_request_tells_which_incarnation_fell_and_which_serves_now(serve: Callable[..., Gateway]) -> None:
    node = serve("--allow-faults")

    script = node.ctl("crash", "failover")
    serves = node.ctl("actor", "show", "failover")["actor"]
    person = node.ctl_raw("crash", "failover").stdout
    patient = node.ctl_raw("crash", "ledger").stdout

    assert (script["incarnation_before"], script["incarnation"]) == (1, 2)
    assert (serves["incarnation"], serves["state"]) == (2, "running")
    assert person == f"{FAILOVER}: incarnation 2 -> 3\n"
    assert patient.startswith("runestone/node/ledger: incarnation 1 -> none yet")


def test_restarts_by_hand_count_for_nothing_however_many(node: Gateway) -> None:
    for _ in range(8):  # a supervisor gives up after three crashes in five seconds
        node.ctl("actor", "restart", "failover")

    assert node.ctl("actor", "show", "failover")["actor"]["incarnation"] == 9
    assert node.ctl("actor", "show", "runestone/node")["actor"]["incarnation"] == 1
    assert "POST /v1/actors/failover/restart by" in node.told()
    assert node.post(WHOLE).status_code == 200


# -- trace


def test_a_trace_tells_types_times_and_senders_and_nothing_that_was_said(node: Gateway) -> None:
    body = {**WHOLE, "messages": [{"role": "user", "content": CANARY}], "user": CANARY}
    following = start(node, "--json", "trace", "failover", "--max", "2", "--for", "60s")
    drawing = start(node, "trace", "provider:openai-default", "--max", "1", "--for", "60s")

    def traced() -> bool:
        answer = node.post(body, {"authorization": f"Bearer {CANARY}"})
        assert answer.status_code == 200
        return following.poll() is not None and drawing.poll() is not None

    eventually(traced, "the traces are full", 30)
    text, drawn = following.communicate()[0], drawing.communicate()[0]
    *messages, end = lines(text)

    assert [(one["kind"], one["message"], one["outcome"]) for one in messages] == [("call", "Admit", "deferred")] * 2
    assert all(one["sender"].startswith("runestone/node/requests/") for one in messages)
    assert all(one["handled_ms"] > 0 for one in messages)
    assert messages[1]["waited_ms"] >= 0  # of the first one it may be that it came before the trace began
    assert (end["type"], end["reason"], end["messages"], end["dropped"]) == ("end", "max_events", 2, 0)
    assert "over (max_events): 1 messages" in drawn
    assert CANARY not in text + drawn


def test_a_trace_that_is_interrupted_says_130_and_the_actor_goes_on(node: Gateway) -> None:
    following = start(node, "trace", "public", "--max", "10000", "--for", "60s")
    assert following.stdout is not None
    following.stdout.readline()
    following.send_signal(signal.SIGINT)

    following.communicate(timeout=30)

    assert following.returncode == 130
    assert node.post(WHOLE).status_code == 200


def test_a_trace_ends_with_the_actor_that_it_follows(node: Gateway) -> None:
    following = start(node, "--json", "trace", "telemetry", "--max", "10000", "--for", "60s")
    assert following.stdout is not None
    first = json.loads(following.stdout.readline())  # it looks at the node every second
    node.ctl("actor", "restart", "telemetry")

    assert first["type"] == "message"
    assert lines(following.communicate(timeout=30)[0])[-1]["reason"] == "exited"


async def test_a_slow_reader_of_a_trace_loses_messages_and_slows_nobody(node: Gateway) -> None:
    with socket.socket(socket.AF_UNIX) as reader:
        reader.connect(str(node.socket))
        reader.sendall(
            b"GET /v1/actors/provider:openai-default/trace?max=10000&seconds=8 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        told = await crowd(Client(node.port, WHOLE), 8, 7)  # and the reader reads nothing
        reader.settimeout(30)
        received = b""
        while data := await asyncio.to_thread(reader.recv, 65536):
            received += data
    end = json.loads(next(line for line in received.splitlines() if b'"type":"end"' in line))

    assert told.unanswered == {}
    assert end["reason"] in ("seconds", "max_events")  # as quick as the machine is
    assert end["dropped"] > 0, (end, told.figures())
    assert end["messages"] + end["dropped"] >= told.ok


# -- stacks


def test_stacks_answer_while_the_loop_is_stuck(serve: Callable[..., Gateway]) -> None:
    node = serve("--allow-faults")
    blocking = start(node, "--json", "block", "--for", "10s")

    def caught() -> dict[str, Any] | None:
        told = node.ctl("stacks", "--task", "event loop")
        return told if any("_hold_up" in frame for frame in told["stacks"][0]["frames"]) else None

    told = eventually(caught, "the stack of what holds the loop up")
    drawn = node.ctl_raw("stacks")
    still = blocking.poll() is None
    blocking.communicate(timeout=30)

    assert still  # what was answered was answered meanwhile
    assert told["tasks"] > 1
    assert "event loop (running)" in drawn.stdout
    assert "operations/actors.py" in drawn.stdout
    assert node.post(WHOLE).status_code == 200


async def test_stacks_show_requests_by_name_and_nothing_that_was_said(node: Gateway, primary: Upstream) -> None:
    primary.fault("pace=0.1 tokens=30")
    async with streams(node) as crowd_:
        await crowd_.start(1, {**HELLO, "messages": [{"role": "user", "content": CANARY}]})
        drawn = (await asyncio.to_thread(node.ctl_raw, "stacks")).stdout
        await crowd_.finish()

    assert f"{FAILOVER} (waiting)" in drawn
    assert "receive.py" in drawn
    assert CANARY not in drawn


def test_the_socket_of_stacks_is_private_survives_the_rude_and_goes_with_the_node(node: Gateway) -> None:
    path = Path(f"{node.socket}.stacks")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for rude in (b"\x00\xff\r\n\r\n", b"GET", b"POST /v1/stacks HTTP/1.1\r\n\r\n", b"x" * 100_000, b""):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            try:
                client.sendall(rude)
            except OSError:  # it has hung up
                continue
    silent = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for one in silent:
        one.connect(str(path))

    assert node.ctl("stacks")["tasks"] > 1
    for one in silent:
        one.close()
    assert node.stop() == 0
    assert not path.exists()


def test_the_socket_of_stacks_comes_back_after_a_crash(serve: Callable[..., Gateway]) -> None:
    node = serve("--allow-faults")
    node.ctl("crash", "stacks")
    eventually(lambda: node.ctl_raw("stacks").returncode == 0, "it answers again")

    assert node.ctl("actor", "show", "stacks")["actor"]["incarnation"] == 2


# -- what they hold


def test_no_actor_shows_a_secret_or_a_prompt_of_what_it_holds(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(OPENAI_API_KEY=f"sk-{CANARY}", RUNESTONE_API_KEYS=f"{CANARY}-inbound")
    body = {**WHOLE, "model": f"openai/{CANARY}", "messages": [{"role": "user", "content": CANARY}]}
    node.post(body, {"authorization": f"Bearer {CANARY}-inbound"})
    assert primary.requests()
    actors = [row["path"] for row in node.ctl("top", "-n", "1000", "--for", "10ms")["actors"]]
    seen = []
    for actor in actors:
        for verb in ("show", "state"):
            answer = node.ctl("actor", verb, actor)
            seen.append(json.dumps(answer))

    held = node.ctl("actor", "state", "failover")["state"]
    assert held["_kinds"] == {"openai-default": "openai", "anthropic-default": "anthropic"}
    assert len(actors) > 15
    assert max(map(len, seen)) < 64 * 1024
    assert [text for text in seen if CANARY in text] == []


# -- from Python


async def test_the_calls_from_python_do_the_same_here_and_elsewhere(tmp_path: Path) -> None:
    environ = {
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock"),
    }
    async with Node(environ=environ, demo=True) as here, RemoteNode(here.socket) as elsewhere:
        for node in (here, elsewhere):
            actors = Actors(node)
            restarted = await actors.restart("failover")
            suspended = await actors.suspend("failover", seconds=30)
            top = await actors.top(n=1, seconds=0.01)
            resumed = await actors.resume("failover")
            shown, state = await actors.show("failover"), await actors.state("failover")
            traced = [line async for line in actors.trace("public", most=2, seconds=30)]

            assert restarted["incarnation"] == restarted["incarnation_before"] + 1 == shown["incarnation"]
            assert (suspended["state"], resumed["state"], shown["state"]) == ("suspended", "running", "running")
            assert len(top) == 1
            assert "_groups" in state
            assert [line["type"] for line in traced] == ["message", "message", "end"]
            for refused in (actors.show("nobody"), anext(actors.trace("nobody", most=1, seconds=1))):
                with pytest.raises(OperationError) as caught:
                    await refused
                assert caught.value.reason == "not_found"
