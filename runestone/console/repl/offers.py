"""What may come next at the cursor: verbs, options, choices, and the names that live in the node now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from attrs import frozen

from runestone.console.commands import Live
from runestone.console.repl.grammar import PIPES, Cursor, Unreadable, cursor, expanded, narrowed
from runestone.console.repl.vocabulary import PATHS, Slot, Verb, Vocabulary

METAS: Final = {
    "x": "lists as one fact a line, or as tables again",
    "json": "answers as JSON, or as tables again",
    "watch": "repeat the last command: \\watch 2s; Ctrl-C ends it",
    "timing": "say how long each command took, or no longer",
    "pager": "long answers through $PAGER: \\pager on, off, or auto for those that are longer than the screen",
    "connect": "another node: \\connect PATH of its admin socket",
    "q": "leave the console",
    "?": "these words",
}
_HELPS: Final = ("help", "?")
_PIPE_HELP: Final = {
    "grep": "the lines that a regular expression finds",
    "head": "the first 10, or as many as it is told",
    "count": "how many lines there are",
    "json": "the answer as JSON",
}

Names = Callable[[Live], Iterable[str]]


@frozen
class Candidate:
    """One text that may stand where the cursor is, and what it means."""

    text: str
    about: str = ""


def candidates(vocabulary: Vocabulary, text: str, names: Names) -> list[Candidate]:
    """What the last word of ``text`` may become. ``names`` is asked for the names of the node, where they are wanted."""
    at = cursor(text)
    if at is None:
        return []
    return [found for found in _possible(vocabulary, at, names) if found.text.startswith(at.word)]


def wants_path(vocabulary: Vocabulary, text: str) -> bool:
    """Whether the last word of ``text`` is the path of a file."""
    at = cursor(text)
    verb, given = (None, ()) if at is None or at.piped else _verb(vocabulary, at.words)
    if at is None or verb is None:
        return False
    slot = verb.awaited(given) or (None if at.word.startswith("-") else _next(verb, given))
    return slot is not None and slot.metavar in PATHS


def hint(vocabulary: Vocabulary, text: str) -> str:
    """What comes behind ``text``, in the words of the help; empty where that is not clear."""
    at = cursor(text)
    if at is None or at.piped:
        return ""
    verb, given = _verb(vocabulary, (*at.words, *([at.word] if at.word else [])))
    if verb is None or (given and at.word):
        return ""
    rest = verb.expects(given)
    return rest if not at.word else f" {rest}" if rest else ""


def _possible(vocabulary: Vocabulary, at: Cursor, names: Names) -> Iterator[Candidate]:
    if at.piped:
        yield from () if at.words else (Candidate(kind, _PIPE_HELP[kind]) for kind in PIPES)
        return
    if at.word.startswith("\\") and not at.words:
        yield from (Candidate(f"\\{name}", about) for name, about in METAS.items())
        return
    words = at.words[1:] if at.words[:1] and at.words[0] in _HELPS else at.words
    verb, given = _verb(vocabulary, words)
    yield from _paths(vocabulary, words)
    if verb is not None and words is at.words:
        yield from _arguments(verb, given, at.word, names)


def _verb(vocabulary: Vocabulary, words: tuple[str, ...]) -> tuple[Verb | None, tuple[str, ...]]:
    if not words:
        return None, ()
    try:
        path, given = expanded(words, vocabulary)
    except Unreadable:
        return None, words
    return vocabulary[path], given


def _paths(vocabulary: Vocabulary, words: tuple[str, ...]) -> Iterator[Candidate]:
    """The next words of the verbs that ``words`` begin."""
    depth, kept = narrowed(words, vocabulary)
    if depth < len(words):
        return
    for step in sorted({path[depth] for path in kept if len(path) > depth}):
        ending = next((verb for path, verb in vocabulary.items() if path.split() == [*kept[0][:depth], step]), None)
        yield Candidate(step, ending.help if ending is not None else f"{step} commands")


def _arguments(verb: Verb, given: tuple[str, ...], word: str, names: Names) -> Iterator[Candidate]:
    if (slot := verb.awaited(given)) is not None:
        yield from _values(slot, (), names)
        return
    if not word.startswith("-") and (slot := _next(verb, given)) is not None:
        placed = verb.placed(given)
        yield from _values(slot, placed[verb.arguments.index(slot) :], names)
        if slot.required and len(placed) < len(verb.arguments):
            return
    for option in verb.options:
        if option.many or not option.among(given):
            yield Candidate(option.names[-1], option.help)


def _next(verb: Verb, given: tuple[str, ...]) -> Slot | None:
    """The argument that comes next by order."""
    arguments, count = verb.arguments, len(verb.placed(given))
    if count < len(arguments):
        return arguments[count]
    return arguments[-1] if arguments and arguments[-1].many else None


def _values(slot: Slot, said: Sequence[str], names: Names) -> Iterator[Candidate]:
    yield from (Candidate(choice) for choice in (*slot.choices, *slot.offers(said)))
    if slot.live is not None:
        yield from (Candidate(name) for name in names(slot.live))
