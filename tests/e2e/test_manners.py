"""How ``runestone ctl`` behaves, for people and in scripts: formats, waiting, watching, asking, and what it says of mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runestone.console.bodies import duration
from runestone.console.commands import Argument, Command
from runestone.console.options import Usage, spelled_out
from runestone.console.table import COMMANDS
from runestone.operations import ceilings
from runestone.operations.edits import EDITS
from tests.e2e.node import Gateway, Upstream, eventually, gateway
from tests.e2e.spawned import interruptible, terminal
from tests.e2e.streams import HELLO


def command(node: Gateway, *arguments: str) -> list[str]:
    """``runestone ctl`` with ``arguments``, as a process is started with it."""
    return [sys.executable, "-m", "runestone", "ctl", "--socket", str(node.socket), *arguments]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A node for tests that leave it as it is."""
    with gateway(tmp_path_factory.mktemp("demo"), {}, "--demo") as running:
        yield running


@pytest.mark.parametrize("options", [["-o", "name"], ["-oname"], ["--output=name"]])
def test_names_alone_stand_one_a_line_before_or_behind_the_verb(demo: Gateway, options: list[str]) -> None:
    for words in ([*options, "providers"], ["providers", *options]):
        assert demo.ctl_raw(*words).stdout.splitlines() == ["anthropic-default", "openai-default"]


def test_each_verb_that_lists_gives_names_rows_and_tables(demo: Gateway) -> None:
    for verb in (["breaker", "list"], ["health", "check", "all"], ["metrics"]):
        assert demo.ctl_raw(*verb, "-o", "name").stdout.split() == ["anthropic-default", "openai-default"]
        rows = [json.loads(line) for line in demo.ctl_raw(*verb, "-o", "ndjson").stdout.splitlines()]
        assert len(rows) == 2
    table, bare = demo.ctl_raw("providers").stdout, demo.ctl_raw("providers", "--no-header").stdout
    wide = demo.ctl_raw("providers", "-o", "wide").stdout
    assert table.startswith("NAME ")
    assert [line.split()[:2] for line in bare.splitlines()] == [line.split()[:2] for line in table.splitlines()[1:]]
    assert set(table.split("\n")[0].split()) < set(wide.split("\n")[0].split())
    assert "DEFAULT MODEL" in wide


@pytest.mark.parametrize("verb", [["provider", "show", "openai-default"], ["breaker", "show", "openai-default"]])
def test_one_thing_goes_by_its_name_too(demo: Gateway, verb: list[str]) -> None:
    assert demo.ctl_raw(*verb, "-o", "name").stdout == "openai-default\n"


def test_what_an_answer_is_about_goes_by_name(demo: Gateway, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text('{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}')
    explained = demo.ctl_raw("failover", "explain", "default-chat-service", "--model", "gpt-4o-mini", "-o", "name")
    estimated = demo.ctl_raw("cost", "estimate", "--request", str(request), "-o", "name")
    tested = demo.ctl_raw("provider", "test", "openai-default")
    booked = eventually(lambda: demo.ctl_raw("cost", "show", "-o", "name").stdout.split() or None, "the call is booked")
    tasks = demo.ctl_raw("stacks", "--task", "*/failover", "-o", "name")

    assert explained.stdout.split() == ["openai-default", "anthropic-default"]
    assert estimated.stdout.split() == ["anthropic-default", "openai-default"]
    assert (tested.returncode, booked) == (0, ["openai-default"])
    assert tasks.stdout.split() == ["runestone/node/failover"]


def test_a_group_is_shown_with_a_line_for_each_member_and_edited_without_a_word_twice(node: Gateway) -> None:
    shown = node.ctl_raw("failover", "show", "default-chat-service").stdout.splitlines()
    edited = node.ctl_raw("failover", "set-strategy", "default-chat-service", "priority").stdout.splitlines()
    again = node.ctl_raw("failover", "set-strategy", "default-chat-service", "fastest_first").stdout.splitlines()

    assert [line.split()[:2] for line in shown[-3:]] == [
        ["NAME", "STATUS"],
        ["openai-default", "up"],
        ["anthropic-default", "up"],
    ]
    assert not [line for line in edited if line.startswith(("done", "failed", "warnings", "needs"))]
    assert [line for line in again if line.startswith("done")] == ["done: groups: changed"]


def test_what_an_actor_holds_is_told_one_fact_a_line(demo: Gateway) -> None:
    lines = demo.ctl_raw("actor", "state", "failover").stdout.splitlines()

    at = lines.index("  openai-default  <ProviderMemory>")
    assert lines[at + 1 : at + 4] == [
        "    settings  <ProviderSettings>",
        "      name  openai-default",
        "      kind  openai",
    ]
    assert max(map(len, lines)) < 200


@pytest.mark.parametrize(
    "words",
    [
        ["provider", "set", "openai-default"],
        ["breaker", "set", "openai-default"],
        ["group", "set", "default-chat-service"],
    ],
)
def test_an_edit_that_names_nothing_is_a_mistake(demo: Gateway, words: list[str]) -> None:
    done = demo.ctl_raw(*words)

    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing to change is named" in done.stderr


def test_who_forgets_a_key_is_told_how_it_is_given(demo: Gateway) -> None:
    done = demo.ctl_raw("provider", "add", "late", "--kind", "openai")

    assert done.returncode == 1
    assert "--key-env" in done.stderr


def test_a_quiet_act_says_nothing_and_a_quiet_read_what_was_asked(demo: Gateway) -> None:
    act = demo.ctl_raw("-q", "breaker", "reset", "openai-default")
    read = demo.ctl_raw("-q", "providers", "-o", "name")
    refused = demo.ctl_raw("-q", "breaker", "reset", "nobody")

    assert (act.returncode, act.stdout, act.stderr) == (0, "", "")
    assert read.stdout
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "nobody" in refused.stderr


@pytest.mark.parametrize("verb", ["events", "events tail", "logs tail", "requests", "top", "why openai-default"])
def test_how_many_are_listed_is_told_in_one_way_and_understood_in_both(node: Gateway, verb: str) -> None:
    for _ in range(2):
        node.post(HELLO)
        node.ctl("breaker", "trip", "openai-default")
        node.ctl("breaker", "reset", "openai-default")

    for option in ("-n", "--last"):
        told = node.ctl(*verb.split(), option, "1")
        listed = told["why"]["breaker"]["turns"] if "why" in told else next(v for v in told.values() if type(v) is list)
        assert len(listed) == 1
    help_page = node.ctl_raw(*verb.split(), "--help").stdout
    assert "-n N" in help_page
    assert "--last" not in help_page


def test_no_help_tells_of_an_option_that_is_refused(demo: Gateway) -> None:
    for command in COMMANDS:
        page = demo.ctl_raw(*command.path.split(), "--help").stdout
        told = set(re.findall(r"(?<![\w-])--[a-z-]+", page))
        assert ("--watch" in told) == (command.reads and not command.stream), command.path
        assert ("--dry-run" in told) == (f"{command.method} {command.route}" in EDITS), command.path
        if command.reads and not any(argument.required or argument.name[0] != "-" for argument in command.arguments):
            refused = (
                "could be well or not" in demo.ctl_raw("--timeout", "1ms", *command.path.split(), "--wait=1ms").stderr
            )
            assert ("--wait" in told) != refused, command.path


_STANDS_FOR = {"actors": "failover", "providers": "openai-default"}


def beyond(command: Command, argument: Argument) -> list[str]:
    """The words of ``command`` with more of ``argument`` than may be, and nothing else that could be refused."""
    words = command.path.split()
    for other in command.arguments:
        if other.name[0] != "-" and other.complete is not None and other.nargs is None:
            words.append(_STANDS_FOR[other.complete])
        elif other.name == "level":
            words.append("info")
        elif other is not argument and (other.required or other.key == "idle"):
            words += [other.name, *([] if other.key == "idle" else ["1"])]
    return [*words, f"{argument.name}={(argument.most or 0) + 1:g}"]


def test_the_help_tells_the_most_that_the_node_takes(demo: Gateway) -> None:
    limited = [(command, one) for command in COMMANDS for one in command.arguments if one.most is not None]
    assert {one.most for _, one in limited} == {value for name, value in vars(ceilings).items() if name.isupper()}

    for command, one in limited:
        refused = demo.ctl_raw(*beyond(command, one))
        told = re.sub(r"\s+", " ", demo.ctl_raw(*command.path.split(), "--help").stdout)

        assert (refused.returncode, refused.stdout) == (1, ""), (command.path, refused)
        assert re.search(rf"(, {one.most:g} at most|to {one.most:g})$", refused.stderr.strip()), (command.path, refused)
        assert f"{one.help}; " in told, command.path
        [most] = re.findall(rf"{re.escape(one.help)}; (\w+) at most", told)
        assert duration(most) == one.most, command.path
    assert demo.ctl("status")["phase"] == "ready"


def test_waiting_ends_as_soon_as_it_is_well(node: Gateway, primary: Upstream) -> None:
    primary.fault("refused")
    assert node.ctl_raw("health", "check", "all").returncode == 4

    with subprocess.Popen(command(node, "health", "check", "--wait", "60s", "all"), stdout=subprocess.PIPE) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.0)
        primary.fault("none")

        assert waiting.wait(30) == 0


def test_waiting_for_what_does_not_come_ends_with_6(node: Gateway, tmp_path: Path) -> None:
    node.ctl("breaker", "trip", "openai-default")

    waited = node.ctl_raw("breaker", "show", "openai-default", "--wait", "300ms")
    nobody = subprocess.run(
        [sys.executable, "-m", "runestone", "ctl", "--socket", str(tmp_path / "none"), "--wait=300ms", "status"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (waited.returncode, waited.stdout) == (6, "")
    assert "breaker show: it is not well after 0.3 s" in waited.stderr
    assert nobody.returncode == 6
    assert "no running node answers" in nobody.stderr


def test_an_act_that_waits_ends_when_its_effect_is_there(node: Gateway) -> None:
    node.ctl("breaker", "trip", "openai-default")

    reset = node.ctl("breaker", "reset", "openai-default", "--wait")
    restarted = node.ctl("provider", "restart", "openai-default", "--wait", "20s")

    assert reset["breaker"]["state"] == "closed"
    assert restarted["incarnation"] == 2
    assert node.provider("openai-default")["status"] == "up"


def test_an_act_that_puts_back_into_service_waits_until_it_is_well(node: Gateway, primary: Upstream) -> None:
    node.ctl("breaker", "set", "openai-default", "--failure-threshold", "1", "--recovery-timeout", "100s")
    primary.fault("503")
    node.post({**HELLO, "model": "openai-default/gpt-4o-mini"})
    node.ctl("provider", "drain", "openai-default")

    for act in ("provider ready", "breaker auto"):
        assert node.ctl_raw(*act.split(), "openai-default", "--wait", "300ms").returncode == 6
    node.ctl("breaker", "reset", "openai-default")
    for act in ("provider ready", "breaker auto"):
        assert node.ctl_raw(*act.split(), "openai-default", "--wait", "20s").returncode == 0


def test_watching_prints_a_block_a_look_until_it_is_interrupted(demo: Gateway) -> None:
    words = command(demo, "--watch", "100ms", "providers", "-o", "name")
    with interruptible(words) as watching:
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(5)]

        assert lines == ["anthropic-default\n", "openai-default\n", "\n", "anthropic-default\n", "openai-default\n"]
        assert watching.interrupt() == 130


def test_watching_gives_a_program_one_object_a_line(demo: Gateway) -> None:
    with interruptible(command(demo, "breaker", "list", "--json", "--watch=100ms")) as watching:
        assert watching.stdout is not None
        looks = [json.loads(watching.stdout.readline()) for _ in range(3)]

        assert [look["v"] for look in looks] == [1, 1, 1]
        assert watching.interrupt() == 130


def test_a_terminal_shows_the_last_look_alone(demo: Gateway) -> None:
    with terminal(command(demo, "providers", "--watch", "100ms")) as screen:
        for _ in range(3):
            screen.expect(r"\x1b\[H\x1b\[2J")
            screen.expect("NAME ")
        screen.send("\x03")
        assert screen.ended() == 130


def test_only_a_terminal_is_asked_whether_a_removal_is_meant(node: Gateway) -> None:
    node.ctl("group", "create", "mine", "--members", "openai-default,anthropic-default")
    with terminal(command(node, "provider", "remove", "openai-default")) as screen:
        screen.expect(re.escape("provider remove openai-default: is that meant? [y/N] "))
        screen.send("\n")
        screen.expect("nothing was done")
        assert screen.ended() == 1
    assert node.provider("openai-default")["status"] == "up"

    with terminal(command(node, "provider", "remove", "openai-default")) as screen:
        screen.expect(re.escape("[y/N] "))
        screen.send("y\n")
        screen.expect("removed")
        assert screen.ended() == 0

    with terminal(command(node, "--yes", "provider", "remove", "anthropic-default")) as screen:
        screen.expect("removed")
        assert screen.ended() == 0
    assert node.ctl_raw("providers", "-o", "name").stdout == ""


def test_a_script_is_not_asked(node: Gateway) -> None:
    done = subprocess.run(
        command(node, "provider", "remove", "openai-default"), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["provider", "show", "openai-defalt"], "not_found", "openai-default"),
        (["failover", "show", "default-chat-servce"], "not_found", "default-chat-service"),
        (["actor", "show", "failovr"], "not_found", "failover"),
        (["group", "add", "default-chat-service", "openai-defalt"], "missing_providers", "openai-default"),
        (["statsu"], "usage", "status"),
        (["breaker", "rest", "openai-default"], "usage", "reset"),
        (["failover", "set-strategy", "default-chat-service", "priorty"], "usage", "priority"),
    ],
)
def test_a_mistyped_word_is_told_what_was_meant(demo: Gateway, words: list[str], code: str, hint: str) -> None:
    script, person = demo.ctl_raw(*words, "--json"), demo.ctl_raw(*words)

    told = json.loads(script.stdout)["error"]
    assert (told["code"], told["hint"]) == (code, f"did you mean {hint}?")
    assert f"did you mean {hint}" in person.stderr
    assert script.returncode == person.returncode


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["provider", "restart", "openai-default", "--watch"], "--watch reads again and again"),
        (["events", "--follow", "--watch"], "goes on by itself"),
        (["tree", "--wait"], "tells nothing that could be well or not"),
        (["status", "--dry-run"], "changes nothing anyway"),
        (["status", "--wait", "--watch"], "one of --watch and --wait"),
        (["--timeout", "soon", "status"], "--timeout"),
        (["-o", "yaml", "status"], "invalid choice"),
    ],
)
def test_an_option_without_a_meaning_is_a_mistake(demo: Gateway, words: list[str], says: str) -> None:
    done = demo.ctl_raw(*words)

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_time_that_is_left_out_takes_no_word_for_it() -> None:
    assert spelled_out(["--watch", "status"]) == ["--watch=2s", "status"]
    assert spelled_out(["--watch", "500ms", "status"]) == ["--watch", "500ms", "status"]
    assert spelled_out(["status", "--wait"]) == ["status", "--wait=30s"]
    assert spelled_out(["--wait=1s", "status"]) == ["--wait=1s", "status"]


def test_what_is_nothing_like_a_choice_gets_no_hint() -> None:
    assert Usage("argument COMMAND: invalid choice: 'xyz' (choose from 'status', 'tree')", "").hint is None
    assert Usage("the following arguments are required: name", "").hint is None


def test_an_act_reads_afterwards_what_there_is_to_read() -> None:
    reads = {one.path: one for one in COMMANDS if one.method == "GET"}
    for act in (one for one in COMMANDS if one.then is not None):
        assert act.then is not None
        assert reads[act.then].good is not None
        assert {a.key for a in reads[act.then].arguments} <= {a.key for a in act.arguments}


def test_a_command_loads_nothing_that_it_has_no_use_for(demo: Gateway) -> None:
    heavy = ("asyncio", "httpx", "starlette", "hypercorn", "rich", "prompt_toolkit", "loguru", "orjson")
    lines = (
        "import sys; from runestone.cli import main",
        "code = main(['ctl', '--socket', sys.argv[1], '--json', 'status'])",
        f"print([name for name in {heavy!r} if name in sys.modules], code, file=sys.stderr)",
    )

    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(demo.socket)], capture_output=True, text=True, check=True
    )

    assert done.stderr == "[] 0\n"
