"""Answers at the console: through pipes, one fact a line, as JSON, drawn for a terminal."""

from __future__ import annotations

import io
import json
import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.console import render
from runestone.console.repl.grammar import Pipe
from runestone.console.repl.output import Enough, Piped, View

ROWS = [{"name": "one", "state": "open", "more": 1}, {"name": "two", "state": "closed", "more": 2}]
DATA = {"v": 1, "rows": ROWS}


def through(text: str, *pipes: Pipe) -> str:
    target = io.StringIO()
    piped = Piped(target, pipes)
    with suppress(Enough):
        piped.write(text)
    piped.finish()
    return target.getvalue()


def shown(view: View, *, streamed: bool = False) -> str:
    return view.over(lambda data: render.table(data["rows"], ("name", "state")), streamed=streamed)(DATA)


@settings(deadline=None)
@given(st.lists(st.text("ab", min_size=1, max_size=3)), st.text("ab", min_size=1, max_size=2), st.integers(0, 5))
def test_pipes_do_with_lines_what_their_names_say(lines: list[str], pattern: str, limit: int) -> None:
    text = "".join(f"{line}\n" for line in lines)
    found = [line for line in lines if re.search(pattern, line)][:limit]

    grepped = through(text, Pipe("grep", pattern=pattern), Pipe("head", limit=limit))
    counted = through(text, Pipe("grep", pattern=pattern), Pipe("head", limit=limit), Pipe("count"))

    assert grepped == "".join(f"{line}\n" for line in found)
    assert counted == f"{len(found)}\n"


def test_a_line_goes_through_as_soon_as_it_is_whole() -> None:
    target = io.StringIO()
    piped = Piped(target, [Pipe("grep", pattern="a")])

    piped.write("a1\nb\na")

    assert target.getvalue() == "a1\n"
    piped.finish()
    assert target.getvalue() == "a1\na\n"


def test_head_ends_what_would_go_on() -> None:
    piped = Piped(io.StringIO(), [Pipe("head", limit=1), Pipe("count")])

    with pytest.raises(Enough):
        piped.write("a\n")


def test_a_count_is_of_entries_and_not_of_the_titles() -> None:
    assert shown(View(terminal=False, lines=True)).splitlines() == ["one   open", "two   closed"]


def test_expanded_lists_tell_all_of_each_entry() -> None:
    assert shown(View(terminal=False, expanded=True)).splitlines() == [
        "-- 1", "name   one", "state  open", "more   1", "-- 2", "name   two", "state  closed", "more   2",
    ]  # fmt: skip


def test_json_is_for_people_but_for_what_streams() -> None:
    whole, line = shown(View(terminal=False, as_json=True)), shown(View(terminal=False, as_json=True), streamed=True)

    assert json.loads(whole) == json.loads(line) == DATA
    assert (whole.count("\n") > 3, line.count("\n")) == (True, 0)


def test_a_terminal_gets_a_table_in_colour_that_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    drawn = shown(View(terminal=True))

    assert "\x1b[1;31mopen" in drawn
    assert "\x1b[32mclosed" in drawn
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 40 for line in drawn.splitlines())


def test_states_are_in_colour_where_they_are_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    text = "failed  0\nstate   open\nname    open-router\nseen    x=closed, y=1\nwhy     it has failed\n├─ roster SUSPENDED\nERROR  down"

    drawn = View(terminal=True).over(lambda _: text, streamed=False)(DATA)

    assert re.findall(r"\x1b\[(?:1;)?3\dm([^\x1b]+)", drawn) == ["open", "closed", "SUSPENDED", "ERROR", "down"]
    assert re.sub(r"\x1b\[[0-9;]*m", "", drawn) == text


def test_what_a_thing_is_called_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [{"at": "12:00:00", "id": "req_0123456789abcdef", "url": "https://a.long.address.example/v1"}]

    drawn = View(terminal=True).over(lambda _: render.table(rows, ("at", "id", "url")), streamed=False)(DATA)

    assert "12:00:00   req_0123456789abcdef" in drawn
    assert "…" not in drawn


def test_no_colour_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    assert "\x1b[3" not in shown(View(terminal=True))


def test_what_has_no_rows_is_shown_as_it_is() -> None:
    assert View(terminal=False, expanded=True).over(lambda _: "a\nb", streamed=False)(DATA) == "a\nb"


def test_an_empty_list_has_no_lines() -> None:
    piped = io.StringIO()
    stream = Piped(piped, [Pipe("count")])
    print(View(terminal=False, lines=True).over(lambda _: render.table([], ("name",)), streamed=False)({}), file=stream)
    stream.finish()

    assert piped.getvalue() == "0\n"


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("answer", [render.table([{"name": "\x1b[2Jx\x9b"}], ("name",)), "error  \x1b]0;x\x07\r"])
def test_the_words_of_others_do_not_move_a_terminals_cursor(answer: str, *, lines: bool) -> None:
    shown = View(terminal=True, lines=lines).over(lambda _: answer, streamed=False)({})

    assert [part for part in ("\x1b[2J", "\x1b]", "\x9b", "\x07", "\r") if part in shown] == []


def listing(data: object) -> str:
    """As commands render a list with something about it."""
    return f"{render.table(ROWS, ('name', 'state'))}\n\n2 of 7"


def test_a_list_within_an_answer_is_a_list_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")

    lines = View(terminal=False, lines=True).over(listing, streamed=False)(DATA)
    entries = View(terminal=False, lines=True, entries=True).over(listing, streamed=False)(DATA)
    expanded = View(terminal=False, expanded=True).over(listing, streamed=False)(DATA)
    drawn = View(terminal=True).over(listing, streamed=False)(DATA)

    assert lines.splitlines() == ["one   open", "two   closed", "", "2 of 7"]
    assert entries.splitlines() == ["one   open", "two   closed"]
    assert expanded.splitlines()[-3:] == ["more   2", "", "2 of 7"]
    assert "\x1b[1;31mopen" in drawn
    assert drawn.endswith("2 of 7")
    assert listing(DATA).startswith("NAME  STATE\none   open")
