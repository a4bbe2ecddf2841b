"""A person's session before a node that comes and goes, over a real socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runestone.console.repl import habits
from runestone.console.repl.link import Link, Seen
from runestone.console.repl.session import Session
from runestone.console.repl.toolbar import name, text


@contextmanager
def moody(path: Path, *answers: dict[str, object] | None) -> Iterator[list[str]]:
    """Answers what is asked with ``answers`` in turn; where one is ``None``, it hangs up. The block has what was asked."""
    asked: list[str] = []
    waiting = list(answers)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65536)
                if not request:
                    continue  # somebody has looked whether anyone is there
                asked.append(request.split(b" HTTP")[0].decode())
                if (answer := waiting.pop(0)) is not None:
                    body = json.dumps({"v": 1, **answer}).encode()
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def test_what_reads_is_asked_again_of_a_node_that_went_meanwhile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with moody(tmp_path / "s", None, {"groups": []}) as asked:
        code = Session(Link(tmp_path / "s"), interactive=True).run("group list | count")

    assert (code, asked) == (0, ["GET /v1/groups"] * 2)
    assert capsys.readouterr().out == "0\n"


def test_what_acts_is_never_asked_twice_and_the_doubt_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with moody(tmp_path / "s", None, {}) as asked:
        code = Session(Link(tmp_path / "s"), interactive=True).run("provider restart openai-default")

    assert (code, asked) == (69, ["POST /v1/providers/openai-default/restart"])
    assert "not known" in capsys.readouterr().err


def test_a_script_waits_for_nobody(tmp_path: Path) -> None:
    with moody(tmp_path / "s", None, {"groups": []}) as asked:
        code = Session(Link(tmp_path / "s"), interactive=False).run("group list")

    assert (code, asked) == (69, ["GET /v1/groups"])


def test_what_needs_no_node_waits_for_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"what-if openai-default --from {tmp_path}/none.jsonl failure_threshold=10"
    code = Session(Link(tmp_path / "nobody"), interactive=True).run(line)

    assert code == 1
    assert "none.jsonl" in capsys.readouterr().err


def test_entries_are_counted_however_they_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with moody(tmp_path / "s", {"groups": [{"name": "a"}, {"name": "b"}]}):
        code = Session(Link(tmp_path / "s"), interactive=True).run(r"\x; group list | count")

    assert (code, capsys.readouterr().out) == (0, "2\n")


@pytest.mark.parametrize(
    ("topic", "code", "says"),
    [
        ("breaker", 0, "half_open: a few probes do"),
        ("half_open", 0, "The event breaker.changed tells it as soon as the time is over"),
        ("retry.max_attempts", 0, "retry.max_attempts"),
        ("breaker.changed", 0, "A circuit breaker has changed its state."),
        ("moon", 3, "'moon' is not known here; there are breaker"),
        ("retry.moon", 3, "retry.moon"),
    ],
)
def test_words_settings_and_events_are_explained_without_a_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], topic: str, code: int, says: str
) -> None:
    assert Session(Link(tmp_path / "nobody"), interactive=True).run(f"explain {topic}") == code

    told = capsys.readouterr()
    assert says in (told.err if code else told.out)


def test_a_console_begins_with_what_its_user_wants_and_carries_out_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session, file = Session(Link(tmp_path / "nobody"), interactive=True), tmp_path / "runestone" / "consolerc"
    habits.take(session, file)
    assert (session.view.expanded, session.timing) == (False, False)

    file.parent.mkdir()
    file.write_text("# mine\n\n\\x\n  \\timing\nprovider remove openai-default --yes\n")
    habits.take(session, file)

    assert (session.view.expanded, session.timing, session.last) == (True, True, None)
    assert f"{file}:5: only" in capsys.readouterr().err
    assert habits.habits_file({"XDG_CONFIG_HOME": str(tmp_path)}) == file


def test_the_toolbar_says_what_is_known_and_what_stands_in_the_way() -> None:
    status = {"pid": 7, "phase": "draining", "status": "draining", "breakers_open": ["a", "b"], "in_flight": 3}
    link = Link(Path("/run/admin.sock"))

    assert name(link) == "/run/admin.sock"
    link.seen = Seen({**status, "listeners": {"public": "http://127.0.0.1:4003"}, "requests_per_second": 1.25})
    assert name(link) == "127.0.0.1:4003"
    assert text(link.seen, read_only=True).split("  ·  ") == [
        "pid 7", "draining", "draining", "open: a, b", "1.2 requests/s", "3 in flight", "read only",
    ]  # fmt: skip
    assert text(Seen(status, "away"), read_only=False) == "reconnecting…"
    assert text(Seen({}), read_only=False).startswith("pid ?")  # a node of another version


def test_a_look_at_a_node_that_is_away_keeps_what_it_was_called(tmp_path: Path) -> None:
    link = Link(tmp_path / "s")
    with moody(tmp_path / "s", {"listeners": {"public": "http://h:1"}}):
        link.look()
    (tmp_path / "s").unlink()

    link.look()

    assert (name(link), link.seen.trouble) == ("h:1", "away")
