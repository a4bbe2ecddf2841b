"""The README's transcripts, replayed in their order on the node that they tell of: each command, and all of its output."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO

README = Path(__file__).parents[2] / "README.md"
ELLIPSIS = "…"  # alone on a line: any lines; within one: any text


@frozen
class Step:
    """A command of a transcript, and what it prints."""

    command: str
    output: str


def steps() -> Iterator[Step]:
    """Those of all blocks of the README that are marked as ``console``."""
    for block in re.findall(r"^```console\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for command, output in re.findall(r"^\$ ([^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", block, re.MULTILINE):
            yield Step(command, output)


def pattern(output: str) -> str:
    """What matches ``output`` with what it leaves out; spaces at the ends of lines do not count."""
    return "".join(
        r"(?:[^\n]*\n)*" if line == ELLIPSIS else r"[^\n]*".join(map(re.escape, line.split(ELLIPSIS))) + "\n"
        for line in output.splitlines()
    )


@pytest.fixture
def told_of(serve: Callable[..., Gateway], primary: Upstream) -> Gateway:
    """A node whose first provider has failed until its breaker opened."""
    node = serve(FAILOVER_STRATEGY="round_robin")
    primary.fault("503")

    def out() -> bool:
        node.post({**HELLO, "stream": False})
        return bool(node.provider("openai-default")["breaker"]["state"] == "open")

    eventually(out, "the breaker opens")
    return node


def typed(node: Gateway, command: str) -> subprocess.CompletedProcess[str]:
    """``command`` as somebody types it at this node's machine, without a key in the environment."""
    program, verb, *words = shlex.split(command)
    assert program == "runestone", f"only commands of runestone are replayed, not: {command}"
    where = ["--socket", str(node.socket)] if verb in ("ctl", "check") else []
    return subprocess.run(
        [sys.executable, "-m", "runestone", verb, *where, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(node.socket.parent), "PYTHONPATH": str(README.parent)},
    )


def test_the_readme_shows_what_the_commands_print(told_of: Gateway) -> None:
    for step in steps():
        done = typed(told_of, step.command)
        printed = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
        assert done.stderr == "", step.command
        assert re.fullmatch(pattern(step.output), printed), f"$ {step.command}\n{printed}\nis not\n{step.output}"


def test_the_guide_s_cases_are_among_them() -> None:
    told = [step.command for step in steps()]

    for command in (
        "runestone config check",
        "runestone ctl breaker show openai-default",
        "runestone ctl breaker reset openai-default",
        "runestone ctl failover show default-chat-service",
        "runestone ctl failover explain default-chat-service --model gpt-4o-mini",
        "runestone ctl provider restart openai-default",
        "runestone ctl requests --slow -n 2",
        "runestone ctl doctor",
    ):
        assert command in told


@pytest.mark.parametrize(
    ("written", "printed", "same"),
    [
        ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("a\n…\n", "a\n", True),
        ("a … c\n", "a b c\n", True),
        ("a … c\n", "a\nc\n", False),
        ("a\n", "a\nb\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_what_is_left_out_may_be_anything_and_the_rest_may_not(written: str, printed: str, same: bool) -> None:
    assert bool(re.fullmatch(pattern(written), printed)) == same
