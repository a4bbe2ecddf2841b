"""One session of the console: carries out what is typed. Each command is the one of ``ctl``; here it is only shown otherwise."""

from __future__ import annotations

import argparse
import getpass
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.util import find_spec
from typing import Final

from attrs import evolve

from runestone.console import ctl
from runestone.console.commands import Command
from runestone.console.options import Parser, Usage, spelled_out
from runestone.console.repl import meta, pager
from runestone.console.repl.grammar import Meta, Typed, Unreadable, expanded, narrowed, parse
from runestone.console.repl.link import Link
from runestone.console.repl.output import Enough, Piped, View
from runestone.console.repl.topics import explained
from runestone.console.repl.vocabulary import Vocabulary, vocabulary
from runestone.telemetry.logs import masked

USAGE: Final = ctl.EXIT_CODES["usage"]
_UNREACHABLE: Final = ctl.EXIT_CODES["unreachable"]
_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds between tries where somebody listens and does not answer


class Left(Exception):
    """Somebody has left the console."""


class Session:
    """What is remembered from line to line. ``interactive``: a person is there to be asked, and a node that is away is waited for."""

    def __init__(self, link: Link, *, interactive: bool, read_only: bool = False) -> None:
        self.link = link
        self.interactive = interactive
        self.read_only = read_only
        self.view = View(terminal=sys.stdout.isatty() and find_spec("rich") is not None)
        self.timing = False
        self.pager: pager.Mode = "auto"
        self._unread = ""  # an answer that is still to be shown
        self.last: Typed | None = None  # the last command, which `\watch` repeats
        self.typed: Callable[[], Iterable[str]] = tuple  # the lines before, oldest first
        self._parser = _parser()
        self.vocabulary: Vocabulary = vocabulary(self._parser)

    def run(self, line: str) -> int:
        """Carry out ``line``; the result is the exit code of its last command, which is the first one that did not end with 0.

        Raises:
            Left: it said so.
        """
        try:
            steps = parse(line)
        except Unreadable as error:
            return self.refuse(str(error))
        for step in steps:
            if code := self._step(step):
                return code
        return 0

    def knows(self, line: str) -> bool:
        """Whether ``line`` names commands that there are."""
        with suppress(Unreadable):
            for step in parse(line):
                if isinstance(step, Typed) and not step.words[0].startswith("-"):
                    expanded(_asked_for_help(step.words) or step.words, self.vocabulary)
            return True
        return False

    def carry_out(self, typed: Typed, *, paged: bool = True) -> int:
        """One command: the exit code. A person has a long answer ``paged``."""
        try:
            path, rest = self._expanded(typed.words)
        except Unreadable as error:
            return self.refuse(str(error))
        if path in _LOCAL:
            return self._local(path, rest, typed)
        self.last = typed
        began = time.monotonic()
        try:
            code = self._remote(typed, path, rest, paged=paged)
        except KeyboardInterrupt:
            code = ctl.EX_INTERRUPTED
        took = time.monotonic() - began
        unread, self._unread = self._unread, ""
        pager.show(unread, self.pager)
        if self.timing:
            print(f"time: {took * 1000:.1f} ms", file=sys.stderr)
        return code

    def refuse(self, message: str, code: int = USAGE) -> int:
        """Say why nothing is done."""
        print(f"runestone: {masked(message)}", file=sys.stderr)
        return code

    def _step(self, step: Typed | Meta) -> int:
        return meta.carry_out(self, step) if isinstance(step, Meta) else self.carry_out(step)

    def _expanded(self, words: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        if (about := _asked_for_help(words)) is not None:
            return "help", about
        if words[0].startswith("-"):  # options that go before the verb, as for ctl
            return "", tuple(words)
        return expanded(words, self.vocabulary)

    def _remote(self, typed: Typed, path: str, rest: Sequence[str], *, paged: bool) -> int:
        try:
            words = ["ctl", "--socket", str(self.link.socket), *path.split(), *rest]
            arguments = self._parser.parse_args(spelled_out(words))
        except Usage as error:
            code = self.refuse(f"{path}: {error}" if path else str(error))
            for more in (error.hint, f"usage: {self.vocabulary[path].usage}" if path else None):
                if more is not None:
                    _say(more)
            return code
        except SystemExit:  # it has printed a page of help
            return 0
        command: Command = arguments.command
        if self.read_only and command.acts:
            return self.refuse(f"{command.path} acts, and this console is read only", ctl.EXIT_CODES["denied"])
        with _key_unseen(arguments):
            show = self._kept if paged and self._pages(command, arguments) else self._shown
            code = self._answered(lambda: show(typed, command, arguments), command, arguments)
        if code == _UNREACHABLE and self.interactive and command.acts:
            print("whether it was done is not known; look before you repeat it", file=sys.stderr)
        return code

    def _answered(self, ask: Callable[[], int], command: Command, arguments: argparse.Namespace) -> int:
        """The exit code of ``ask``. A person's command waits for the node; what only reads is asked again where the node went meanwhile."""
        alone = command.offline is not None and getattr(arguments, command.offline) is not None
        if alone or not self.interactive:
            return ask()
        for pause in _PAUSES:
            self.link.wait(_say)
            code = ask()
            if code != _UNREACHABLE or command.acts or command.stream:
                return code
            time.sleep(pause)
        return _UNREACHABLE

    def _pages(self, command: Command, arguments: argparse.Namespace) -> bool:
        """Whether a pager may have the answer: somebody is there, and the answer has an end."""
        goes_on = command.stream or arguments.watch is not None or getattr(arguments, "follow", False)
        return self.pager != "off" and self.interactive and sys.stdout.isatty() and not goes_on

    def _kept(self, typed: Typed, command: Command, arguments: argparse.Namespace) -> int:
        with pager.written() as paper:
            code = self._shown(typed, command, arguments)
        self._unread = paper.getvalue()
        return code

    def _shown(self, typed: Typed, command: Command, arguments: argparse.Namespace) -> int:
        piped = Piped(sys.stdout, typed.pipes) if typed.pipes else None
        kinds = {pipe.kind for pipe in typed.pipes}
        as_json = self.view.as_json or "json" in kinds
        view = evolve(self.view, as_json=as_json, lines=piped is not None, entries="count" in kinds)
        streamed = command.stream or getattr(arguments, "follow", False)
        if command.into is None:  # what goes into a file is for programs
            arguments.command = evolve(command, render=view.over(command.render, streamed=streamed))
        if piped is None:
            return ctl.run(arguments)
        with redirect_stdout(piped):
            try:
                code = ctl.run(arguments)
            except Enough:
                code = 0
        if code == 0 or piped.used:  # else there is no answer to count
            piped.finish()
        return code

    def _local(self, path: str, rest: Sequence[str], typed: Typed) -> int:
        if path in ("exit", "quit"):
            raise Left
        if path in ("help", "explain"):
            try:
                text = self._help(rest) if path == "help" else explained(" ".join(rest))
            except Unreadable as error:
                return self.refuse(str(error))
            except LookupError as error:
                return self.refuse(str(error.args[0]), ctl.EXIT_CODES["not_found"])
        else:
            text = "\n".join(self.typed())
        if not typed.pipes:
            pager.show(f"{text}\n", self.pager if self.interactive and sys.stdout.isatty() else "off")
            return 0
        out = Piped(sys.stdout, typed.pipes)
        with suppress(Enough):
            out.write(f"{text}\n")
        out.finish()
        return 0

    def _help(self, words: Sequence[str]) -> str:
        """The page of one verb, or a line about each that ``words`` begin."""
        if (path := " ".join(words)) in self.vocabulary:
            return self.vocabulary[path].page
        depth, kept = narrowed(words, self.vocabulary)
        if depth < len(words):
            return self.vocabulary[expanded(words, self.vocabulary)[0]].page
        found = sorted((self.vocabulary[" ".join(path)] for path in kept), key=lambda verb: verb.path)
        if len(found) == 1:
            return found[0].page
        width = max(len(verb.path) for verb in found)
        return "\n".join(f"{verb.path.ljust(width)}  {verb.help}" for verb in found)


_LOCAL: Final = ("help", "explain", "history", "exit", "quit")


def _parser() -> argparse.ArgumentParser:
    """The one of ``ctl``, which tells of a mistake without ending the process."""
    parser = Parser(prog="runestone")
    ctl.add_parser(parser.add_subparsers())
    return parser


def _asked_for_help(words: Sequence[str]) -> tuple[str, ...] | None:
    return tuple(words[1:]) if words[0] in ("?", "help") else None


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def _key_unseen(arguments: argparse.Namespace) -> Iterator[None]:
    """A key that comes from standard input is typed without being seen, where that is a terminal."""
    if not getattr(arguments, "key_stdin", False) or not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin
    sys.stdin = io.StringIO(getpass.getpass("API key (it is not shown): ") + "\n")
    try:
        yield
    finally:
        sys.stdin = terminal
