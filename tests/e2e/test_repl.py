"""``runestone console`` as a person has it: at a terminal, before a real node."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runestone.console.client import AdminClient
from tests.e2e.node import Gateway, eventually, gateway
from tests.e2e.streams import HELLO
from tests.e2e.terminal import Terminal, needs_tmux, terminal

CANARY = "canary0123456789"
COMMAND = [sys.executable, "-m", "runestone", "console", "--socket"]
PROMPT = r"127\.0\.0\.1:\d+>"


def environment(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH", "COVERAGE_PROCESS_START")}
    return {**kept, "LANG": "C.UTF-8", "XDG_STATE_HOME": str(folder / "state")}


def history(folder: Path) -> str:
    return (folder / "state" / "runestone" / "history").read_text()


def once(node: Gateway, commands: str, *more: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, str(node.socket), "-c", commands, *more]
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def console(node: Gateway, tmp_path: Path) -> Iterator[Terminal]:
    with terminal(tmp_path, [*COMMAND, str(node.socket)], environment(tmp_path), PROMPT) as one:
        one.ready()
        yield one


# -- at a terminal ---------------------------------------------------------------------------------------------------------


@needs_tmux
def test_the_prompt_and_the_toolbar_say_which_node_it_is_and_how_it_is(node: Gateway, console: Terminal) -> None:
    console.shows(rf"^{re.escape(node.public_url.removeprefix('http://'))}>")
    console.shows(rf"pid {node.process.pid} .* ready .* healthy .* no breaker open .* requests/s .* 0 in flight")

    node.ctl("breaker", "trip", "openai-default")

    console.shows("open: openai-default")


@needs_tmux
def test_tab_completes_the_name_of_a_provider_that_lives_in_the_node(node: Gateway, console: Terminal) -> None:
    node.ctl("group", "create", "critical", "--members", "openai-default")
    console.type("prov res an")
    console.press("Tab")
    console.shows("prov res anthropic-default")
    console.press("Enter")
    console.shows(r"incarnation +2")
    console.type("failover show cri")
    console.press("Tab")

    console.shows("failover show critical")
    assert node.provider("anthropic-default")["incarnation"] == 2


@needs_tmux
def test_a_grey_hint_says_what_comes_next_and_is_no_part_of_the_line(console: Terminal) -> None:
    console.type("provider restart ")
    console.shows(r"> provider restart NAME \[--hard\]")
    console.press("Enter")

    console.shows("arguments are required")


@needs_tmux
def test_watch_repeats_until_ctrl_c_which_ends_the_watch_and_not_the_console(node: Gateway, console: Terminal) -> None:
    console.enter("prov show openai-default | grep score")
    console.shows("^health score")
    console.enter(r"\watch 100ms")
    eventually(lambda: len(re.findall("^health score", console.screen(), re.MULTILINE)) > 4, console.screen)
    console.press("C-c")

    console.enter("breaker list")

    console.shows("STATE")


@needs_tmux
def test_ctrl_c_ends_what_is_followed_or_traced_and_not_the_console(node: Gateway, console: Terminal) -> None:
    console.enter("events --follow --name request.finished")
    node.post({**HELLO, "stream": False})
    console.shows(r"request\.finished")
    node.post({**HELLO, "stream": False})
    eventually(lambda: console.screen().count("request.finished ") == 2, console.screen)
    console.press("C-c")
    console.ready()
    console.enter("trace failover --max 1000 --for 60s")
    eventually(lambda: node.post({**HELLO, "stream": False}).is_success and "Admit" in console.screen(), console.screen)
    console.press("C-c")

    console.enter("status | head 1")

    console.shows("^version")


@needs_tmux
def test_ctrl_c_at_the_prompt_clears_the_line_and_ctrl_d_leaves(console: Terminal) -> None:
    console.type("breaker trip openai-default")
    console.press("C-c")
    console.enter("breaker list")
    console.shows("STATE")
    console.ready()
    console.press("C-d")

    assert console.ended() == 0


@needs_tmux
def test_lines_are_recalled_also_by_the_next_console(node: Gateway, tmp_path: Path) -> None:
    for arrows in (0, 2):
        with terminal(tmp_path, [*COMMAND, str(node.socket)], environment(tmp_path), PROMPT) as one:
            one.ready()
            if not arrows:
                one.enter("providers | count")
            one.press(*["Up"] * arrows, "Enter")
            one.shows("^2$")
            one.enter("exit")
            assert one.ended() == 0
    file = tmp_path / "state" / "runestone" / "history"
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)


@needs_tmux
def test_a_node_that_restarts_is_waited_for_and_the_next_command_is_answered(
    tmp_path: Path, serve: Callable[..., Gateway]
) -> None:
    first = serve()
    with terminal(tmp_path, [*COMMAND, str(first.socket)], environment(tmp_path), PROMPT) as console:
        console.shows("ready")
        console.enter("breaker list | count")
        console.shows("^2$")
        first.stop()
        console.shows("reconnecting…")
        console.enter("status | grep pid")
        console.shows("no node answers on .*reconnecting")
        with gateway(first.socket.parent, {}, "--demo") as second:
            console.shows("it is back")
            console.shows(rf"^pid +{second.process.pid}$")
            console.shows(rf"pid {second.process.pid} .* ready")
            console.enter("exit")
            assert console.ended() == 0


@needs_tmux
def test_what_is_followed_goes_on_with_the_node_that_comes_after(tmp_path: Path, serve: Callable[..., Gateway]) -> None:
    first = serve()
    with terminal(tmp_path, [*COMMAND, str(first.socket)], environment(tmp_path), PROMPT) as console:
        console.enter("events --follow --name admin.acted | grep breakers")
        first.ctl("breaker", "reset", "openai-default")
        console.shows("openai-default/reset")
        first.stop()
        console.shows("reconnecting")
        with gateway(first.socket.parent, {}, "--demo") as second:
            console.shows("it is back")
            second.ctl("breaker", "trip", "anthropic-default")
            console.shows("anthropic-default/trip")
            console.press("C-c")
            console.enter("exit")
            assert console.ended() == 0


@needs_tmux
def test_nobody_waits_for_a_node_against_his_will(tmp_path: Path, serve: Callable[..., Gateway]) -> None:
    node = serve()
    with terminal(tmp_path, [*COMMAND, str(node.socket)], environment(tmp_path), PROMPT) as console:
        console.shows("ready")
        node.stop()
        console.enter("status")
        console.shows("no node answers on .*reconnecting")
        console.press("C-c")
        console.enter("help tree")
        console.shows("the supervision tree")
        console.ready()
        console.press("C-d")
        assert console.ended() == 0


@needs_tmux
def test_a_key_is_typed_unseen_and_is_in_no_transcript_and_no_history(
    node: Gateway, console: Terminal, tmp_path: Path
) -> None:
    console.enter("provider add late --kind openai --base-url http://127.0.0.1:9/v1 --key-stdin")
    console.shows("API key")
    console.type(f"sk-{CANARY}")
    console.press("Enter")
    console.shows("^done: provider late")
    console.enter("provider show late")
    console.shows(r"status +up")
    console.enter("history")
    console.ready()
    screen = console.screen()
    console.enter(f"provider add odd --kind openai --api-key sk-{CANARY}")  # into the wrong place, seen by himself
    console.shows("unrecognized")
    console.enter(f"sk-{CANARY}")
    console.shows("no command")
    console.enter("exit")

    assert console.ended() == 0
    assert CANARY not in screen
    assert "--key-stdin" in history(tmp_path)
    assert CANARY not in history(tmp_path)


@needs_tmux
def test_the_words_with_a_backslash_change_how_answers_look(console: Terminal) -> None:
    console.enter(r"\x; breaker list")
    console.shows("^-- 2\nprovider +openai-default")
    console.enter(r"\x; \json; breaker list")
    console.shows('^  "breakers": ')
    console.enter(r"\json; \timing; breaker list | count")
    console.shows(r"^time: \d+\.\d ms")
    console.enter(r"\?")
    console.shows("^.timing  ")
    console.enter(r"\q")

    assert console.ended() == 0


@needs_tmux
def test_a_console_begins_with_what_its_user_wants_of_every_one(node: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "config" / "runestone" / "consolerc"
    file.parent.mkdir(parents=True)
    file.write_text("\\x\n")
    wanted = environment(tmp_path) | {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    with terminal(tmp_path, [*COMMAND, str(node.socket)], wanted, PROMPT) as console:
        console.enter("breaker list")
        console.shows("^-- 2\nprovider +openai-default")
        console.enter("exit")

        assert console.ended() == 0


@needs_tmux
def test_a_long_answer_goes_through_the_pager_and_others_where_that_is_wanted(node: Gateway, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\nsed 's/^/paged: /'\n")
    pager.chmod(0o755)
    wanted = environment(tmp_path) | {"PAGER": str(pager)}
    with terminal(tmp_path, [*COMMAND, str(node.socket)], wanted, PROMPT) as console:
        console.enter("config show")  # longer than the screen
        console.shows("^paged: .*server.port")
        console.enter("breaker list")
        console.shows("^openai-default")
        console.enter("config show | grep ledger")
        console.shows("^ledger.url")
        console.enter(r"\pager on")
        console.shows("^pager: on")
        console.enter("breaker list; history")
        console.shows("^paged: openai-default")
        console.shows("^paged: config show")
        console.enter("events --name breaker.changed --follow")  # which has no end
        node.ctl("breaker", "trip", "openai-default")
        console.shows(r"^\d+ .* breaker\.changed")
        console.press("C-c")
        console.enter("prov show openai-default | grep ^kind")
        console.shows("^paged: kind")
        console.enter(r"\watch 100ms")
        eventually(lambda: len(re.findall("^kind", console.screen(), re.MULTILINE)) > 2, console.screen)
        console.press("C-c")
        console.enter(r"\pager off")
        console.enter("config show; history | count")
        console.shows("^ledger.interval_ms")
        console.enter(r"\pager sideways")
        console.shows("takes on, off or auto, not 'sideways'")


@needs_tmux
def test_a_pager_that_is_left_early_or_is_not_there_costs_nothing_of_the_console(node: Gateway, tmp_path: Path) -> None:
    for pager, shows in (("less", r"^lines 1-|^:$"), ("no-such-pager", "PAGER: no-such-pager: No such file")):
        with terminal(
            tmp_path, [*COMMAND, str(node.socket)], environment(tmp_path) | {"PAGER": pager}, PROMPT
        ) as console:
            console.enter("config show")
            console.shows(shows)
            if pager == "less":
                console.press("C-c")
                eventually(lambda: _left(console), console.screen, 20.0)
                console.press("C-u")
            console.enter("provider show openai-default | grep ^kind")
            console.shows("^kind +openai")


def _left(console: Terminal) -> bool:
    """Press q, whether or not that ends the pager: one that has just been interrupted may lose a key. Too many stand at the prompt."""
    console.press("q")
    return re.search(rf"^{console.prompt} q*\s*(\n\s*\S.*)?\s*\Z", console.screen(), re.MULTILINE) is not None


def test_a_script_has_no_pager(node: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "false")

    done = once(node, r"\pager on; config show")

    assert (done.returncode, "ledger.url" in done.stdout) == (0, True)


@needs_tmux
def test_what_cannot_be_taken_back_is_asked_about(node: Gateway, console: Terminal) -> None:
    for answer, phase in (("n", "ready"), ("y", "draining")):
        console.enter("drain")
        console.shows(r"^drain: .*\[y/N\] *$")
        console.type(answer)
        console.press("Enter")
        console.ready()
        assert node.ctl("status")["phase"] == phase


@needs_tmux
def test_what_goes_into_a_file_is_not_drawn_for_the_terminal(node: Gateway, console: Terminal, tmp_path: Path) -> None:
    node.post({**HELLO, "stream": False})

    console.enter(rf"\json; events export {tmp_path}/events")
    console.shows(r"^\d+ lines in")

    lines = (tmp_path / "events").read_text().splitlines()
    assert "attempt.finished" in {json.loads(line).get("event") for line in lines}


@needs_tmux
def test_connect_leads_to_another_node_that_is_there(
    serve: Callable[..., Gateway], console: Terminal, node: Gateway
) -> None:
    other = serve()

    console.enter(rf"\connect {other.socket}.none")
    console.shows("this stays with")
    console.enter("status | grep ^pid")
    console.shows(rf"^pid +{node.process.pid}$")
    console.enter(rf"\connect {other.socket}")
    console.shows(rf"^{re.escape(other.public_url.removeprefix('http://'))}> *$")
    console.enter("status | grep ^pid")

    console.shows(rf"^pid +{other.process.pid}$")


@needs_tmux
def test_a_node_whose_loop_is_stuck_can_be_looked_into(tmp_path: Path, serve: Callable[..., Gateway]) -> None:
    node = serve("--allow-faults")
    command = [*COMMAND[:3], "ctl", "--socket", str(node.socket)]
    with subprocess.Popen([*command, "block", "--for", "30s"]) as blocking:
        eventually(lambda: "hold_up" in node.ctl_raw("stacks").stdout, "its loop is held up")
        with terminal(tmp_path, [*COMMAND, str(node.socket)], environment(tmp_path), r"\S+>") as console:
            console.shows("no answer in time")
            console.enter("stacks | grep hold_up")
            console.shows("^ .*hold_up")
        node.stop(signal.SIGKILL)
        blocking.wait(30)


@needs_tmux
def test_a_console_without_a_node_says_so_and_ends(tmp_path: Path) -> None:
    with terminal(tmp_path, [*COMMAND, str(tmp_path / "none")], environment(tmp_path), PROMPT) as console:
        assert console.ended() == 69
        console.shows("runestone serve")


# -- in scripts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commands", "code", "says"),
    [
        ("provider show nobody", 3, "nobody"),
        ("prov sho openai-default | grep ^name", 0, "name                 openai-default\n"),
        ("providers | count", 0, "2\n"),
        ("breaker show nobody; providers | count", 3, ""),
        ("providers | count; breaker show nobody", 3, "2\n"),
        ("provider", 2, ""),
        ("stat --wrong", 2, ""),
        ("no-such-verb", 2, ""),
        ("exit; provider show nobody", 0, ""),
        ("help provider rest", 0, "provider restart NAME [--hard]"),
    ],
)
def test_commands_from_a_script_have_the_exit_codes_of_ctl(node: Gateway, commands: str, code: int, says: str) -> None:
    done = once(node, commands)

    assert done.returncode == code, done.stderr
    assert says in (done.stdout if code == 0 else done.stdout + done.stderr)
    assert bool(done.stderr) == bool(code)


def test_lines_from_a_pipe_are_carried_out_up_to_the_first_that_fails(node: Gateway) -> None:
    lines = "providers | count\nbreaker show nobody\nstatus\n"

    done = subprocess.run(
        [*COMMAND, str(node.socket)], input=lines, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout) == (3, "2\n")


def test_nobody_there_is_69_for_a_script(tmp_path: Path) -> None:
    command = [*COMMAND, str(tmp_path / "none"), "-c", "status"]

    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 69


def test_head_ends_what_follows(node: Gateway) -> None:
    node.post({**HELLO, "stream": False})

    done = once(node, "events --follow | head 2")

    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)


def test_read_only_refuses_what_acts_before_it_is_asked(node: Gateway) -> None:
    refused = once(node, "breaker trip openai-default", "--read-only")
    read = once(node, "breaker show openai-default | grep ^state", "--read-only")

    assert (refused.returncode, refused.stdout) == (77, "")
    assert "read only" in refused.stderr
    assert (read.returncode, read.stdout.split()) == (0, ["state", "closed"])
    acted = AdminClient(node.socket).request("GET", "/v1/events", {"name": "admin.acted"})["events"]
    assert acted == []


def test_a_key_from_a_pipe_is_read_as_ctl_reads_it(node: Gateway) -> None:
    add = "provider add late --kind openai --base-url http://127.0.0.1:9/v1 --key-stdin"

    done = once(node, add, typed=f"sk-{CANARY}\n")

    assert done.returncode == 0, done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert node.provider("late")["status"] == "up"


# -- what it costs those who have no console -------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--json", "status"], ["status"], ["providers"], ["--json", "--help"]])
def test_ctl_loads_nothing_of_the_console(node: Gateway, arguments: list[str]) -> None:
    program = (
        "import sys; from runestone.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "ctl", "--socket", str(node.socket), *arguments]

    loaded = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr

    assert "'runestone'" in loaded
    for name in ("prompt_toolkit", "rich", "pygments", "argcomplete", "loguru", "httpx", "asyncio", "starlette"):
        assert f"'{name}'" not in loaded


@pytest.mark.parametrize(
    ("missing", "arguments", "fails"),
    [
        ("prompt_toolkit", ["console"], True),
        ("argcomplete", ["completion", "bash"], True),
        ("rich", ["console", "-c", "help tree"], False),
        ("prompt_toolkit", ["console", "-c", "help tree"], False),
    ],
)
def test_without_the_extra_it_is_said_how_to_have_it_where_it_is_needed(
    missing: str, arguments: list[str], *, fails: bool
) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from runestone.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    theirs, ours = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            stdin=ours,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(theirs)
        os.close(ours)

    assert done.returncode == int(fails)
    assert ("pip install 'runestone[console]'" in done.stderr) == fails
