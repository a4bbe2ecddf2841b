"""A line of the console: what it is taken apart into, whatever is typed."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.console.repl.grammar import Cursor, Meta, Pipe, Typed, Unreadable, cursor, expanded, parse

PATHS = ("provider show", "provider restart", "provider remove", "providers", "status", "stacks", "tree", "trace")

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
commands = st.lists(words, min_size=1, max_size=5).map(tuple).filter(lambda typed: not typed[0].startswith("\\"))
pipes = st.one_of(
    st.builds(lambda text: Pipe("grep", pattern=text), st.text("abc .;|'", min_size=1)),
    st.builds(lambda number: Pipe("head", limit=number), st.integers(0, 1000)),
    st.sampled_from([Pipe("count"), Pipe("json")]),
)
lines = st.lists(st.builds(Typed, commands, st.lists(pipes, max_size=3).map(tuple)), max_size=4).map(tuple)


def written(typed: Typed) -> str:
    return " | ".join([shlex.join(typed.words), *map(piped, typed.pipes)])


def piped(pipe: Pipe) -> str:
    match pipe.kind:
        case "grep":
            return f"grep {shlex.quote(pipe.pattern)}"
        case "head":
            return f"head {pipe.limit}"
        case kind:
            return kind


@settings(deadline=None)
@given(lines, st.sampled_from([";", " ; ", "; ;"]))
def test_what_is_written_with_quotes_is_read_as_it_was(typed: tuple[Typed, ...], between: str) -> None:
    assert parse(between.join(map(written, typed))) == typed


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_line_is_more_than_read_or_refused(line: str) -> None:
    try:
        parse(line)
    except Unreadable as error:
        assert str(error)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_the_cursor_stands_somewhere_in_every_beginning_of_a_line(line: str) -> None:
    at = cursor(line)

    assert at is None or line.endswith(at.word)


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        ("", ()),
        (" ;; ", ()),
        ("status; tree", (Typed(("status",)), Typed(("tree",)))),
        ("events --name 'breaker.*;x'", (Typed(("events", "--name", "breaker.*;x")),)),
        ("providers|grep open|head 3", (Typed(("providers",), (Pipe("grep", "open"), Pipe("head", limit=3))),)),
        ("providers | head", (Typed(("providers",), (Pipe("head", limit=10),)),)),
        (r"\watch 2s", (Meta("watch", ("2s",)),)),
        (r"\x; providers", (Meta("x"), Typed(("providers",)))),
        (r"\?", (Meta("?"),)),
        (r"fault a\ b none", (Typed(("fault", "a b", "none")),)),
    ],
)
def test_a_line_is_taken_apart(line: str, steps: tuple[Typed | Meta, ...]) -> None:
    assert parse(line) == steps


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("provider show 'x", "quote"),
        ("provider show x\\", "backslash"),
        ("| count", "before the |"),
        ("status | wc", "grep PATTERN"),
        ("status | grep", "grep PATTERN"),
        ("status | head x", "grep PATTERN"),
        ("status |", "grep PATTERN"),
        ("status | grep (", "no regular expression"),
        (r"\x | count", "no output"),
    ],
)
def test_what_makes_no_command_says_why(line: str, says: str) -> None:
    with pytest.raises(Unreadable, match=says.replace("|", r"\|")):
        parse(line)


@pytest.mark.parametrize(
    ("typed", "path", "rest"),
    [
        ("prov res openai-default", "provider restart", ("openai-default",)),
        ("provider res openai-default --hard", "provider restart", ("openai-default", "--hard")),
        ("prov", "providers", ()),
        ("prov --json", "providers", ("--json",)),
        ("providers", "providers", ()),
        ("sta", "", ()),
        ("stat", "status", ()),
        ("tre failover", "tree", ("failover",)),
    ],
)
def test_a_beginning_that_fits_one_verb_alone_is_that_verb(typed: str, path: str, rest: tuple[str, ...]) -> None:
    if not path:
        with pytest.raises(Unreadable, match="stacks or status"):
            expanded(typed.split(), PATHS)
    else:
        assert expanded(typed.split(), PATHS) == (path, rest)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("provider", "provider remove, provider restart or provider show"),
        ("prov rset x", "provider remove, provider restart or provider show"),
        ("provider re x", "provider remove or provider restart"),
        ("statsu", "did you mean status"),
        ("tr", "trace or tree"),
    ],
)
def test_a_beginning_that_fits_none_or_several_is_refused_by_their_names(typed: str, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        expanded(typed.split(), PATHS)


@settings(deadline=None)
@given(st.sampled_from(PATHS), st.lists(words.filter(lambda word: word not in PATHS), max_size=3))
def test_a_verb_that_is_typed_whole_is_never_another_one(path: str, rest: list[str]) -> None:
    found, behind = expanded([*path.split(), *rest], PATHS)

    assert (found, behind) == (path, tuple(rest))


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", Cursor((), "")),
        ("prov", Cursor((), "prov")),
        ("status; provider re", Cursor(("provider",), "re")),
        ("providers | gr", Cursor((), "gr", piped=True)),
        ("providers | grep ", Cursor(("grep",), "", piped=True)),
        ("provider show ", Cursor(("provider", "show"), "")),
        ("\\", Cursor((), "\\")),
        ("status; \\wat", Cursor((), "\\wat")),
        ("provider show 'op", None),
    ],
)
def test_the_cursor_knows_the_words_before_it(text: str, at: Cursor | None) -> None:
    assert cursor(text) == at
