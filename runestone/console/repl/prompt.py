"""The prompt: reads lines from a terminal and has the session carry them out, until somebody leaves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import History as AnyHistory
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.layout.processors import AfterInput
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from runestone.console import ctl
from runestone.console.repl import habits, toolbar
from runestone.console.repl.grammar import cursor
from runestone.console.repl.history import History, history_file
from runestone.console.repl.link import Link, Watch
from runestone.console.repl.names import LiveNames
from runestone.console.repl.offers import Names, candidates, hint, wants_path
from runestone.console.repl.session import Left, Session
from runestone.console.repl.vocabulary import Vocabulary

_FILES: Final = PathCompleter(expanduser=True)
_STYLE: Final = Style.from_dict({"hint": "fg:ansibrightblack", "bottom-toolbar": "noreverse fg:ansibrightblack"})


class NodeCompleter(Completer):
    """Completes at the prompt. It may ask the node, so it runs in a thread (``ThreadedCompleter``)."""

    def __init__(self, vocabulary: Vocabulary, names: Names) -> None:
        self._vocabulary = vocabulary
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """What the word at the cursor may become, each with a space behind it."""
        text = document.text_before_cursor
        at = cursor(text)
        begun = "" if at is None else at.word
        if wants_path(self._vocabulary, text):
            yield from _FILES.get_completions(Document(begun), complete_event)
        for found in candidates(self._vocabulary, text, self._names):
            yield Completion(
                found.text if found.text.endswith("=") else f"{found.text} ",
                -len(begun),
                display=found.text,
                display_meta=found.about,
            )


def converse(socket: Path, *, read_only: bool) -> int:
    """Read and carry out lines until somebody leaves."""
    link = Link(socket)
    match link.look().trouble:
        case "away":
            return _fail("unreachable", f"no running node answers on {socket}. Is `runestone serve` up?")
        case "denied":
            return _fail("denied", f"{socket} may not be opened")
        case _:  # one that is late may be stuck, and be looked into
            pass
    session = Session(link, interactive=True, read_only=read_only)
    prompt = prompt_session(session, _history(session), LiveNames(lambda: session.link.socket))
    session.typed = prompt.history.get_strings
    habits.take(session, habits.habits_file())

    def redraw() -> None:
        with suppress(RuntimeError):  # the prompt's loop has just ended
            prompt.app.invalidate()

    with Watch(link, redraw), suppress(Left):
        while True:
            _one_line(session, prompt)
    return 0


def _fail(code: str, message: str) -> int:
    print(f"runestone: {message}", file=sys.stderr)
    return ctl.EXIT_CODES[code]


def prompt_session(session: Session, history: AnyHistory, names: Names, **terminal: Any) -> PromptSession[str]:
    """The prompt of ``session``; ``names`` tells those of the node, ``terminal`` may be another input and output than the terminal."""
    prompt: PromptSession[str] = PromptSession(
        lambda: f"{toolbar.name(session.link)}> ",
        completer=ThreadedCompleter(NodeCompleter(session.vocabulary, names)),
        complete_while_typing=False,  # two completions at once race for the line
        complete_style=CompleteStyle.MULTI_COLUMN,
        auto_suggest=AutoSuggestFromHistory(),
        history=history,
        bottom_toolbar=lambda: toolbar.text(session.link.seen, read_only=session.read_only),
        style=_STYLE,
        **terminal,
    )
    prompt.input_processors = [AfterInput(lambda: [("class:hint", _hint(session, prompt))])]
    return prompt


def _one_line(session: Session, prompt: PromptSession[str]) -> None:
    try:
        line = prompt.prompt()
    except KeyboardInterrupt:  # it clears the line
        return
    except EOFError:
        raise Left from None
    try:
        code = session.run(line)
    except KeyboardInterrupt:  # what runs is over, the console is not
        code = ctl.EX_INTERRUPTED
    if code == ctl.EX_INTERRUPTED:
        print()  # behind the ^C


def _hint(session: Session, prompt: PromptSession[str]) -> str:
    """What comes next, where the cursor stands at the end and no earlier line is suggested there."""
    buffer = prompt.default_buffer
    if (buffer.suggestion is not None and buffer.suggestion.text) or not buffer.document.is_cursor_at_the_end:
        return ""
    return hint(session.vocabulary, buffer.text)


def _history(session: Session) -> AnyHistory:
    """In the state directory; where that cannot be written, of this session alone."""
    try:
        return History(history_file(), session.knows)
    except OSError as error:
        print(f"runestone: no history is kept: {error}", file=sys.stderr)
        return InMemoryHistory()
