"""The exit codes of ``runestone ctl``, each by a real cause, and what a program reads then."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runestone.console.ctl import EXIT_CODES
from tests.e2e.node import Gateway, gateway
from tests.e2e.spawned import interruptible

ADD = ["provider", "add", "late", "--kind", "ollama", "--base-url"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A node that each test leaves as it was."""
    with gateway(tmp_path_factory.mktemp("demo"), {}, "--demo") as running:
        yield running


def ended(path: Path, *words: str) -> tuple[int, str | None]:
    """The exit code of one command, and the code of the error that a program reads; both ways of asking have to agree."""
    command = [sys.executable, "-m", "runestone", "ctl", "--socket", str(path), *words]
    person = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    script = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=60)
    told = json.loads(script.stdout)
    assert told["v"] == 1
    assert person.returncode == script.returncode
    assert (script.stderr == "") == ("error" not in told)
    assert (person.stdout == "") == ("error" in told)
    assert "Traceback" not in person.stderr + script.stderr
    return person.returncode, told.get("error", {}).get("code")


def test_0_is_done(demo: Gateway) -> None:
    assert ended(demo.socket, "status") == (0, None)


def test_1_is_refused(demo: Gateway) -> None:
    assert ended(demo.socket, "actor", "restart", "state") == (1, "refused")


def test_2_is_a_mistake_in_what_was_typed(demo: Gateway) -> None:
    assert ended(demo.socket, "breaker", "shoe") == (2, "usage")


@pytest.mark.parametrize(
    "words",
    [
        ["provider", "show", "nobody"],
        ["actor", "show", "nobody"],
        ["failover", "show", "nobody"],
        ["group", "set", "cost-optimized-service", "--members", "nobody"],
    ],
    ids=" ".join,
)
def test_3_is_no_such_name(demo: Gateway, words: list[str]) -> None:
    assert ended(demo.socket, *words)[0] == 3


def test_4_is_unhealthy_and_the_answer_is_there_all_the_same(demo: Gateway) -> None:
    demo.ctl("fault", "openai-default", "refused")

    code, error = ended(demo.socket, "health", "check", "all")

    demo.ctl("fault", "openai-default", "none")
    assert (code, error) == (4, None)


def test_5_is_a_conflict(demo: Gateway) -> None:
    demo.ctl(*ADD, "http://127.0.0.1:9/v1")

    code = ended(demo.socket, *ADD, "http://127.0.0.1:9/v1")

    demo.ctl("provider", "remove", "late")
    assert code == (5, "conflict")


@pytest.mark.parametrize("patience", [["--timeout", "300ms"], []], ids=["of ctl", "of the node"])
def test_6_is_no_answer_in_time(demo: Gateway, patience: list[str]) -> None:
    demo.ctl("actor", "suspend", "failover")

    code = ended(demo.socket, "failover", "show", "default-chat-service", *patience)

    demo.ctl("actor", "resume", "failover")
    assert code == (6, "timeout")


def test_69_is_nobody_there(tmp_path: Path) -> None:
    assert ended(tmp_path / "none.sock", "status") == (69, "unreachable")


def test_77_is_not_allowed(demo: Gateway) -> None:
    assert ended(demo.socket.with_name("observe.sock"), "mode", "legacy") == (77, "denied")


def test_78_is_a_wrong_setting(demo: Gateway) -> None:
    assert ended(demo.socket, *ADD, "nonsense") == (78, "invalid")
    assert ended(demo.socket, "log", "level", "loud") == (78, "invalid")


@pytest.mark.parametrize(
    "words", [["events", "--follow"], ["trace", "public", "--max", "100", "--for", "60s"], ["status", "--watch"]]
)
def test_130_is_ctrl_c(demo: Gateway, words: list[str]) -> None:
    with interruptible([sys.executable, "-m", "runestone", "ctl", "--socket", str(demo.socket), *words]) as running:
        assert running.stdout is not None
        running.stdout.readline()

        assert running.interrupt() == 130


def test_the_readme_has_all_of_them() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    told = readme[readme.index("Exit codes:") :].partition(".")[0]

    assert set(map(int, re.findall(r"\b\d+\b", told))) == {0, 1, 4, 130, *EXIT_CODES.values()}
