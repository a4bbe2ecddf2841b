"""``runestone completion``: what a shell completes, asked of the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.node import Gateway
from tests.e2e.terminal import needs_tmux, terminal

ASK = """
eval "$(runestone completion bash)"
COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9 COMP_WORDS=($1)
_python_argcomplete runestone
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With ``runestone`` as a command on the path, as an installation has it."""
    program = tmp_path / "bin" / "runestone"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m runestone "$@"\n')
    program.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if k in ("HOME", "PYTHONPATH", "LANG")}
    return {**kept, "PATH": f"{program.parent}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(tmp_path)}


def bash(script: str, environment: dict[str, str], *arguments: str) -> list[str]:
    command = ["bash", "--norc", "--noprofile", "-c", script, "bash", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return [line.rstrip() for line in done.stdout.splitlines()]


def test_bash_takes_the_script(environment: dict[str, str]) -> None:
    [told] = bash('eval "$(runestone completion bash)"; complete -p runestone', environment)

    assert told.startswith("complete ")
    assert told.endswith("-F _python_argcomplete runestone")


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("runestone c", ["ctl", "console", "config", "completion"]),
        ("runestone ctl pro", ["provider", "providers"]),
        ("runestone ctl provider re", ["remove", "restart"]),
        ("runestone ctl top --sort ", ["mailbox", "busy"]),
        ("runestone ctl provider restart x --h", ["--hard"]),
        ("runestone config ", ["check", "init"]),
        ("runestone completion ", ["bash", "zsh", "fish"]),
        ("runestone ctl log level ", ["debug", "warning"]),
        ("runestone ctl fault x cut ", ["after=", "at=", "rate="]),
        ("runestone ctl what-if x failure_threshold=3 ", ["recovery_timeout=", "half_open_limit="]),
        ("runestone config explain retry.", ["retry.max_attempts", "retry.jitter"]),
    ],
)
def test_bash_completes_verbs_options_and_choices(environment: dict[str, str], line: str, some: list[str]) -> None:
    assert set(some) <= set(bash(ASK, environment, line))


def test_bash_completes_the_names_that_live_in_the_node(node: Gateway, environment: dict[str, str]) -> None:
    node.ctl("group", "create", "critical", "--members", "openai-default")
    ctl = f"runestone ctl --socket {node.socket}"
    mine = {**environment, "RUNESTONE_ADMIN_SOCKET": str(node.socket)}

    assert bash(ASK, environment, f"{ctl} provider show ") == ["anthropic-default", "openai-default"]
    assert bash(ASK, mine, "runestone ctl provider show an") == ["anthropic-default"]
    assert bash(ASK, mine, "runestone ctl failover show c") == ["cost-optimized-service", "critical"]
    assert bash(ASK, mine, "runestone ctl actor show failo") == ["failover"]
    assert bash(ASK, mine, "runestone ctl crash failo") == ["failover"]


def test_without_a_node_there_are_no_names_and_no_errors(environment: dict[str, str]) -> None:
    assert bash(ASK, environment, "runestone ctl provider show an") == [""]


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("runestone ctl cost estimate --request a", ["a-file"]),
        ("runestone ctl --socket a", ["a-file"]),
        ("runestone serve --config a", ["a-file"]),
        ("runestone ctl log level a", [""]),
        ("runestone ctl provider test x --model a", [""]),
        ("runestone ctl trace x --max a", [""]),
        ("runestone serve --port a", [""]),
    ],
)
def test_files_are_offered_where_one_may_stand_alone(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, files: list[str]
) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.chdir(tmp_path)

    assert bash(ASK, environment, line) == files
    assert "-o default" not in bash('eval "$(runestone completion bash)"; complete -p runestone', environment)[0]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_can_read_its_script(environment: dict[str, str], tmp_path: Path, shell: str) -> None:
    script = tmp_path / f"runestone.{shell}"
    script.write_bytes(
        subprocess.run(["runestone", "completion", shell], env=environment, capture_output=True, check=True).stdout
    )

    assert "runestone" in script.read_text()
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", str(script)], env=environment, check=True, timeout=30)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("runestone ctl provider re", ["ready", "remove", "restart"]),
        ("runestone ctl log level wa", ["warning"]),
        ("runestone ctl provider test x --model a", []),
    ],
)
def test_fish_completes_the_same(environment: dict[str, str], tmp_path: Path, line: str, words: list[str]) -> None:
    script = f"runestone completion fish | source; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    assert [told.split("\t")[0] for told in done.stdout.splitlines()] == words


@needs_tmux
@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_at_the_keyboard(environment: dict[str, str], tmp_path: Path) -> None:
    ready = "PS1='zsh> '; autoload -Uz compinit && compinit -u -D; eval \"$(runestone completion zsh)\"; clear"
    command = ["env", f"PATH={environment['PATH']}", "zsh", "-f"]  # tmux gives its client's
    with terminal(tmp_path, command, {**environment, "PS1": "zsh> "}, "zsh>") as zsh:
        zsh.enter(ready)
        zsh.ready()
        zsh.type("runestone ctl provider rem")
        zsh.press("Tab")
        zsh.shows("^zsh> runestone ctl provider remove *$")
        zsh.press("C-u")
        zsh.type("runestone ctl log level de")
        zsh.press("Tab")
        zsh.shows("^zsh> runestone ctl log level debug *$")
