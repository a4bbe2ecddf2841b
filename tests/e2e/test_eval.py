"""Python in the node: for who has asked for it when it was started, by the admin socket, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from runestone.console.client import AdminClient
from tests.e2e.node import Gateway, eventually
from tests.e2e.streams import HELLO

pytestmark = pytest.mark.usefixtures("primary", "secondary")


@pytest.fixture
def node(serve: Callable[..., Gateway]) -> Gateway:
    return serve("--unsafe-eval")


def test_without_the_flag_it_is_refused_and_runs_nothing(serve: Callable[..., Gateway]) -> None:
    node = serve("--allow-faults")

    done = node.ctl_raw("eval", "node.phase.drain()")

    assert done.returncode == 1
    assert "--unsafe-eval" in done.stderr
    assert AdminClient(node.socket).request("GET", "/v1/status")["unsafe_eval"] is False
    assert node.ctl("status")["phase"] == "ready"
    assert [one["outcome"] for one in node.ctl("events", "--name", "admin.acted")["events"]] == ["not_enabled"]


@pytest.mark.parametrize(
    ("code", "value", "printed"),
    [
        ("len(providers)", "2", ""),
        ("await asyncio.sleep(0, 'slept')", "'slept'", ""),
        ("print('one', 'two', sep='-')", None, "one-two\n"),
        ("print(1) or 5", "5", "1\n"),
        ("async def f():\n    return 7\nprint(await f())", None, "7\n"),
        ("x = 1", None, ""),
        ("None", None, ""),
    ],
)
def test_an_expression_has_its_value_and_statements_what_they_print(
    node: Gateway, code: str, value: str | None, printed: str
) -> None:
    assert node.ctl("eval", code) == {"v": 1, "value": value, "printed": printed}


@pytest.mark.parametrize(
    ("code", "exit_code", "says"),
    [
        ("1/0", 1, "ZeroDivisionError"),
        ("while", 1, "SyntaxError"),
        ("exit()", 1, "`shutdown` ends the node"),
        ("raise KeyboardInterrupt", 1, "`shutdown` ends the node"),
        ("raise asyncio.CancelledError", 1, "cancelled itself"),
        ("x", 1, "NameError"),
        (" ", 1, "not empty"),
        ("await asyncio.sleep(60)", 6, "within 5 s"),
    ],
)
def test_what_goes_wrong_in_it_is_told_and_the_node_goes_on(
    node: Gateway, code: str, exit_code: int, says: str
) -> None:
    done = node.ctl_raw("eval", code)

    assert (done.returncode, done.stdout) == (exit_code, "")
    assert says in done.stderr
    assert node.post({**HELLO, "stream": False}).status_code == 200


def test_what_it_tells_has_an_end_and_no_key(node: Gateway) -> None:
    long = node.ctl("eval", "print('x' * 40000); print('y' * 40000); print('z')")["printed"]
    value = node.ctl("eval", "'v' * 10**7")["value"]
    key = node.ctl("eval", "'sk-upstream-openai-0123456789abcdef'")

    assert len(long) < 66_000
    assert "(cut)" in long
    assert len(value) < 66_000
    assert "0123456789abcdef" not in json.dumps(key)


def test_it_is_loud_and_each_input_is_on_record(node: Gateway) -> None:
    node.ctl("eval", "6 * 7", "--reason", "INC-42")

    acted = node.ctl("events", "--name", "admin.acted")["events"][-1]
    assert (acted["route"], acted["action"], acted["reason"]) == ("POST /v1/eval", "POST /v1/eval 6 * 7", "INC-42")
    eventually(lambda: "eval: 6 * 7" in node.log.read_text(), "the log has it")
    assert "may run any Python in this process" in node.told()
    assert node.ctl("status")["unsafe_eval"] is True
    assert node.detailed()["unsafe_eval"] is True
    assert [alert["message"] for alert in node.ctl("status")["alerts"] if "--unsafe-eval" in alert["message"]]
    assert "unsafe_eval" in node.ctl_raw("doctor", "-o", "name").stdout.split()


def test_neither_observers_nor_the_network_have_it(node: Gateway) -> None:
    transport = httpx.HTTPTransport(uds=str(node.socket.with_name("observe.sock")))
    with httpx.Client(transport=transport, base_url="http://node", timeout=20) as client:
        observed = client.post("/v1/eval", json={"code": "node.phase.drain()"})
    with httpx.Client(trust_env=False, timeout=20) as client:
        others = [
            client.post(f"{url}/v1/eval", json={"code": "node.phase.drain()"}).status_code
            for url in (node.public_url, node.health_url)
        ]

    assert (observed.status_code, observed.json()["error"]["code"]) == (403, "denied")
    assert all(status in (404, 405) for status in others)
    assert node.ctl("status")["phase"] == "ready"
