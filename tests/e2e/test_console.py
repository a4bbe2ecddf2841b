"""``runestone ctl`` over the admin socket, as a person and as a script."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from runestone.cli import main
from runestone.console.table import COMMANDS
from tests.e2e.node import Gateway, Upstream, eventually, gateway, needs_curl
from tests.e2e.streams import HELLO

WHOLE = {**HELLO, "stream": False}


def test_the_tree_is_drawn_as_the_readme_draws_it(node: Gateway) -> None:
    drawn = node.ctl_raw("tree").stdout

    lines = [line.lstrip("│├└─ ").split(" ")[0] for line in drawn.splitlines()]
    assert lines[0] == "runestone"
    for name in (
        "registry",
        "state",
        "node",
        "telemetry",
        "costs",
        "operations",
        "fleet",
        "providers",
        "roster",
        "failover",
        "requests",
        "public",
    ):
        assert name in lines
    assert "openai-default (one_for_one)" in drawn


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["tree"],
        ["providers"],
        ["provider", "show", "openai-default"],
        ["provider", "restart", "openai-default"],
        ["breaker", "show", "openai-default"],
        ["breaker", "list"],
        ["breaker", "trip", "openai-default", "--seconds", "1"],
        ["breaker", "reset", "openai-default"],
        ["failover", "show", "default-chat-service"],
    ],
)
def test_every_verb_speaks_to_people_and_to_scripts(node: Gateway, command: list[str]) -> None:
    person = node.ctl_raw(*command)
    script = node.ctl_raw("--json", *command)

    assert (person.returncode, script.returncode) == (0, 0), (person.stderr, script.stderr)
    assert person.stdout.strip()
    assert json.loads(script.stdout)["v"] == 1
    assert (person.stderr, script.stderr) == ("", "")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["breaker", "show", "nobody"], 3),
        (["provider", "show", ""], 3),
        (["provider", "show", "a/b"], 3),
        (["--timeout", "-1", "status"], 2),
        (["breaker", "trip", "openai-default", "--seconds", "inf"], 2),
        (["provider", "restart", "nobody"], 3),
        (["failover", "show", "nobody"], 3),
        (["breaker", "trip", "openai-default", "--seconds", "-1"], 2),
        (["crash", "failover"], 1),
        (["fault", "openai-default", "none"], 1),
        (["no-such-verb"], 2),
        (["breaker"], 2),
    ],
)
def test_a_refusal_has_its_exit_code_and_says_why(node: Gateway, command: list[str], code: int) -> None:
    person = node.ctl_raw(*command)

    assert person.returncode == code
    assert person.stdout == ""
    assert person.stderr


def test_json_tells_a_refusal_on_standard_output(node: Gateway) -> None:
    script = node.ctl_raw("--json", "breaker", "show", "nobody")

    assert json.loads(script.stdout)["error"]["code"] == "not_found"


def test_json_is_taken_behind_the_verb_too(node: Gateway) -> None:
    assert json.loads(node.ctl_raw("providers", "--json").stdout)["v"] == 1


def test_a_path_that_no_socket_can_have_is_69_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runestone", "ctl", "--socket", str(tmp_path / ("x" * 200)), "status"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 69
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [[], *(command.path.split() for command in COMMANDS)], ids=" ".join)
def test_every_verb_has_a_page_of_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ctl", *words, "--help"])

    assert ended.value.code == 0
    assert "usage: runestone ctl" in capsys.readouterr().out


def test_nobody_there_is_69(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runestone", "ctl", "--socket", str(tmp_path / "none.sock"), "status"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 69
    assert "runestone serve" in done.stderr


def test_a_tripped_breaker_lets_no_call_through_until_it_is_reset(node: Gateway, primary: Upstream) -> None:
    assert node.ctl("breaker", "trip", "openai-default")["breaker"]["state"] == "open"

    tripped = node.post(WHOLE)
    calls = len(primary.requests())
    reset = node.ctl("breaker", "reset", "openai-default")["breaker"]
    after = node.post(WHOLE)

    assert (tripped.headers["x-runestone-provider"], calls) == ("anthropic-default", 0)
    assert (reset["state"], reset["mode"]) == ("closed", "auto")
    assert after.headers["x-runestone-provider"] == "openai-default"


def test_a_restart_returns_when_the_new_incarnation_answers(node: Gateway) -> None:
    told = node.ctl("provider", "restart", "openai-default")

    assert told["incarnation"] == told["incarnation_before"] + 1
    assert node.provider("openai-default")["incarnation"] == told["incarnation"]


def test_two_restarts_at_once_both_return(node: Gateway) -> None:
    command = [
        sys.executable,
        "-m",
        "runestone",
        "ctl",
        "--socket",
        str(node.socket),
        "provider",
        "restart",
        "openai-default",
    ]

    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]

    assert [process.wait(30) for process in both] == [0, 0]
    assert node.provider("openai-default")["status"] == "up"


def test_failover_show_counts_what_happened(node: Gateway, primary: Upstream) -> None:
    node.post(WHOLE)
    primary.fault("status=500")
    node.post(WHOLE)

    shown = node.ctl("failover", "show", "default-chat-service")["failover"]

    assert (shown["requests"], shown["failovers"]) == (2, 1)
    assert [member["name"] for member in shown["members"]] == ["openai-default", "anthropic-default"]


@needs_curl
def test_the_admin_api_is_plain_http_with_any_host(node: Gateway) -> None:
    command = ["curl", "-s", "--unix-socket", str(node.socket), "http://x/v1/tree"]

    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    assert answer["tree"]["id"] == "runestone"


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"seconds": "soon"}', b'{"seconds": -1}', b'{"seconds": true}'])
def test_nonsense_on_the_admin_socket_is_refused_and_changes_nothing(node: Gateway, body: bytes) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(node.socket))) as client:
        answer = client.post("http://x/v1/breakers/openai-default/trip", content=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "refused")
    assert node.ctl("breaker", "show", "openai-default")["breaker"]["state"] == "closed"
    assert node.provider("openai-default")["incarnation"] == 1


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/providers/openai-default/restart", {"hard": "yes"}, "hard must be true or false"),
        ("/v1/providers/openai-default/fault", {"spec": 1}, "spec must be a string"),
        ("/v1/groups", {"name": "g", "providers": "openai-default"}, "providers must be a list of strings"),
        ("/v1/groups/cost-optimized-service", {"options": []}, "options must be an object"),
        ("/v1/breakers/openai-default/trip", {"seconds": "5"}, "seconds must be a number"),
        ("/v1/crash", {"name": []}, "name must be a string"),
    ],
)
def test_a_field_of_another_type_is_refused_by_its_name(node: Gateway, path: str, body: object, says: str) -> None:
    transport = httpx.HTTPTransport(uds=str(node.socket))
    with httpx.Client(transport=transport, base_url="http://node") as client:
        answer = client.post(path, json=body)

    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/breakers/a%0Ab", "/v1/nothing", "/", "/v1/breakers/%FF", "//", "/%00"])
def test_a_path_that_is_not_there_is_told_as_everything_else(node: Gateway, path: str) -> None:
    transport = httpx.HTTPTransport(uds=str(node.socket))
    with httpx.Client(transport=transport, base_url="http://node") as client:
        answer = client.get(path)

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(node: Gateway) -> None:
    command = f"{sys.executable} -m runestone ctl --socket {node.socket} --json metrics all; echo $? >&2"
    done = subprocess.run(
        ["sh", "-c", f"({command}) | true"], capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip

    assert done.stderr in ("141\n", "0\n")  # whoever was quicker


def test_the_socket_is_its_owners_alone(node: Gateway) -> None:
    status = node.socket.stat()

    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_a_second_instance_is_refused_and_the_first_one_goes_on(node: Gateway) -> None:
    environment = {
        **os.environ,
        "RUNESTONE_ADMIN_SOCKET": str(node.socket),
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
    }

    second = subprocess.run(
        [sys.executable, "-m", "runestone", "serve", "--demo"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert second.returncode == 69
    assert "another instance" in second.stderr
    assert "Traceback" not in second.stderr
    assert node.ctl("status")["pid"] == node.process.pid


def test_what_a_killed_node_left_behind_does_not_stop_the_next_one(
    tmp_path: Path, serve: Callable[..., Gateway]
) -> None:
    first = serve()
    first.stop(signal.SIGKILL)
    assert first.socket.exists()

    with gateway(first.socket.parent, {}, "--demo") as second:
        assert second.ctl("status")["status"] == "healthy"
        assert second.stop() == 0

    assert not first.socket.exists()


def test_an_address_in_use_is_said_without_a_traceback(node: Gateway, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "s"),
        "RUNESTONE_PORT": str(node.port),
        "RUNESTONE_HEALTH_PORT": "0",
    }

    second = subprocess.run(
        [sys.executable, "-m", "runestone", "serve", "--demo"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert second.returncode == 69
    assert f"127.0.0.1:{node.port} is in use" in second.stderr
    assert "Traceback" not in second.stderr
    assert not (tmp_path / "s").exists()


def test_wrong_settings_are_all_told_by_name_with_78(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "FAILOVER_STRATEGY": "round_robbin",
        "RETRY_MAX_ATTEMPTS": "many",
        "OPENAI_TIMEOUT": "-1",
    }

    done = subprocess.run(
        [sys.executable, "-m", "runestone", "serve"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert done.returncode == 78
    assert "env:FAILOVER_STRATEGY: " in done.stderr
    assert "did you mean round_robin" in done.stderr
    assert "env:RETRY_MAX_ATTEMPTS: " in done.stderr
    assert "env:OPENAI_TIMEOUT: " in done.stderr
    assert "Traceback" not in done.stderr


def test_every_change_is_logged(node: Gateway) -> None:
    node.ctl("breaker", "reset", "openai-default")

    eventually(lambda: "/v1/breakers/openai-default/reset" in node.log.read_text(), "it is in the log")
