"""What can be typed at the console, read off the parser that ``ctl`` has: its verbs, their arguments and options, and what these take."""

from __future__ import annotations

import argparse
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

from attrs import frozen

from runestone.console.commands import Command, Live, Offers, nothing
from runestone.console.repl import topics

_OPTIONS_HINTED: Final = 6
_CHOICES_SHOWN: Final = 4
PATHS: Final = ("PATH", "FILE")  # how an argument says that it takes one


@frozen(kw_only=True)
class Slot:
    """An argument of a verb, or an option where it has ``names``. ``own``: it is the verb's, and not one that every verb has."""

    key: str
    help: str
    metavar: str
    names: tuple[str, ...] = ()
    also: tuple[str, ...] = ()  # what it may be called too, which nobody is told
    takes: bool = True
    many: bool = False
    required: bool = False
    own: bool = True
    choices: tuple[str, ...] = ()
    live: Live | None = None
    offers: Offers = nothing

    def among(self, words: Container[str]) -> bool:
        """Whether ``words`` have it by one of its names."""
        return any(name in words for name in (*self.names, *self.also))

    @property
    def usage(self) -> str:
        """How it is written."""
        text = " ".join([*self.names[-1:], *([self.value] if self.takes else [])])
        return text if self.required else f"[{text}]"

    @property
    def value(self) -> str:
        """What it takes: the choices where they are few."""
        few = 0 < len(self.choices) <= _CHOICES_SHOWN
        return f"{{{'|'.join(self.choices)}}}" if few else self.metavar


@frozen(kw_only=True)
class Verb:
    """A command, or a word that the console answers itself (then ``command`` is ``None``)."""

    path: str
    help: str
    slots: tuple[Slot, ...] = ()
    command: Command | None = None

    @property
    def arguments(self) -> tuple[Slot, ...]:
        """What has its place by order."""
        return tuple(slot for slot in self.slots if not slot.names)

    @property
    def options(self) -> tuple[Slot, ...]:
        """What has its place by name."""
        return tuple(slot for slot in self.slots if slot.names)

    @property
    def usage(self) -> str:
        """On one line."""
        return f"{self.path} {self.expects(())}".rstrip()

    @property
    def page(self) -> str:
        """All about it."""
        slots = [(" ".join([*slot.names, *([slot.value] if slot.takes else [])]), slot.help) for slot in self.slots]
        width = max((len(name) for name, _ in slots), default=0)
        return "\n".join([f"{self.usage}\n\n{self.help}", *(f"  {name.ljust(width)}  {text}" for name, text in slots)])

    def expects(self, given: tuple[str, ...]) -> str:
        """What may come behind the words ``given``: the value of the last option, or the rest of the arguments and options."""
        if (open_slot := self.awaited(given)) is not None:
            return open_slot.value
        words = self.placed(given)
        arguments = [slot.usage for slot in self.arguments[len(words) :]]
        options = [slot for slot in self.options if slot.own and not slot.among(given)]
        required = [slot.usage for slot in options if slot.required]
        others = [slot.usage for slot in options if not slot.required]
        more = ["…"] if len(others) > _OPTIONS_HINTED else []
        return " ".join([*arguments, *required, *others[:_OPTIONS_HINTED], *more])

    def option(self, word: str) -> Slot | None:
        """The one that is called ``word``."""
        return next((slot for slot in self.options if slot.among((word,))), None)

    def awaited(self, given: tuple[str, ...]) -> Slot | None:
        """The option whose value comes next."""
        last = self.option(given[-1]) if given else None
        return last if last is not None and last.takes else None

    def placed(self, given: tuple[str, ...]) -> list[str]:
        """Those of the words ``given`` that are neither options nor their values."""
        words, skip = [], False
        for word in given:
            found = self.option(word)
            if skip:
                skip = False
            elif found is not None:
                skip = found.takes
            elif not word.startswith("-"):
                words.append(word)
        return words


Vocabulary = Mapping[str, Verb]
_WORD: Final = Slot(
    key="word", help="of an answer, a setting, an event", metavar="WORD", required=True, offers=lambda _: topics.known()
)

LOCAL: Final = tuple(
    Verb(path=path, help=text, slots=slots)
    for path, text, slots in (
        ("help", "what there is, or one command: help provider restart", ()),
        ("explain", "what a word in answers, a setting or an event means: explain breaker", (_WORD,)),
        ("history", "what was typed", ()),
        ("exit", "leave the console (Ctrl-D)", ()),
        ("quit", "leave the console", ()),
    )
)


def vocabulary(parser: argparse.ArgumentParser) -> Vocabulary:
    """Every verb under ``parser``, by its path, and the console's own."""
    found = {command.path: _verb(command, actions) for command, actions in commands_of(parser)}
    return {**{verb.path: verb for verb in LOCAL}, **found}


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[Command, list[argparse.Action]]]:
    """The commands under ``parser``, each with all that argparse takes behind it."""
    actions = parser._actions  # noqa: SLF001 - argparse lists them nowhere else
    below = [action for action in actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001 - likewise
    for action in below:
        for sub in action.choices.values():
            yield from commands_of(sub)
    command = parser.get_default("command")
    if isinstance(command, Command):
        yield command, [action for action in actions if action.dest != "help" and action not in below]


def _verb(command: Command, actions: Iterable[argparse.Action]) -> Verb:
    slots = tuple(_slot(action, command) for action in actions if action.help != argparse.SUPPRESS)
    return Verb(path=command.path, help=command.help, slots=slots, command=command)


def _slot(action: argparse.Action, command: Command) -> Slot:
    argument = next((a for a in command.arguments if a.key == action.dest), None)
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper().replace("_", "-")
    named = bool(action.option_strings)
    return Slot(
        key=action.dest,
        help=(action.help or "").replace("%%", "%"),
        metavar=metavar,
        names=tuple(action.option_strings),
        also=() if argument is None or argument.also is None else (argument.also,),
        takes=action.nargs != 0,
        many=action.nargs in ("+", "*") or isinstance(action, argparse._AppendAction),  # noqa: SLF001 - likewise
        required=action.required if named else action.nargs not in ("?", "*"),
        own=argument is not None,
        choices=tuple(map(str, action.choices or ())),
        live=None if argument is None else argument.complete,
        offers=nothing if argument is None else argument.offers,
    )
