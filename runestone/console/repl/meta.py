"""The words that begin with a backslash: they tell the console itself what to do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve

from runestone.console import ctl
from runestone.console.bodies import duration
from runestone.console.repl.grammar import Meta, Unreadable, expanded
from runestone.console.repl.link import Link
from runestone.console.repl.offers import METAS
from runestone.console.repl.pager import MODES

if TYPE_CHECKING:
    from runestone.console.repl.session import Session

_WATCH_SECONDS: Final = 2.0


def carry_out(session: Session, meta: Meta) -> int:
    """Do it; the exit code."""
    if (found := _METAS.get(meta.name)) is None:
        return session.refuse(f"there is no \\{meta.name}; \\? lists what there is")
    action, most = found
    if len(meta.words) > most:
        return session.refuse(f"\\{meta.name} takes {most or 'no'} word{'' if most == 1 else 's'}")
    return action(session, *meta.words)


def _expand(session: Session) -> int:
    session.view = evolve(session.view, expanded=not session.view.expanded)
    return _told("lists", "one fact a line" if session.view.expanded else "tables")


def _json(session: Session) -> int:
    session.view = evolve(session.view, as_json=not session.view.as_json)
    return _told("answers", "JSON" if session.view.as_json else "text")


def _time(session: Session) -> int:
    session.timing = not session.timing
    return _told("timing", "on" if session.timing else "off")


def _page(session: Session, mode: str = "") -> int:
    """Say when, or be told."""
    if mode:
        if mode not in MODES:
            return session.refuse(f"\\pager takes {', '.join(MODES[:-1])} or {MODES[-1]}, not {mode!r}")
        session.pager = mode
    return _told("pager", session.pager)


def _watch(session: Session, every: str = "") -> int:
    """Repeat the last command until Ctrl-C, or until it fails."""
    if (last := session.last) is None:
        return session.refuse("\\watch repeats the last command, and there is none yet")
    try:
        seconds = duration(every) if every else _WATCH_SECONDS
    except ValueError:
        return session.refuse(f"\\watch takes a time such as 2s, not {every!r}")
    if acts(session, last.words):
        return session.refuse("\\watch repeats what reads, and the last command acts")
    try:
        while True:
            print(f"{datetime.now().astimezone():%H:%M:%S}  every {seconds:g}s, Ctrl-C ends it")
            if code := session.carry_out(last, paged=False):
                return code
            print(flush=True)
            time.sleep(seconds)
    except KeyboardInterrupt:
        return ctl.EX_INTERRUPTED


def acts(session: Session, words: tuple[str, ...]) -> bool:
    """Whether the command that ``words`` name changes something, as far as that is known."""
    try:
        command = session.vocabulary[expanded(words, session.vocabulary)[0]].command
    except Unreadable:
        return True
    return command is None or not command.reads


def _connect(session: Session, path: str = "") -> int:
    """To another node, which must be there."""
    if not path:
        print(session.link.socket)
        return 0
    there = Link(Path(path).expanduser())
    if not there.there():
        return session.refuse(
            f"no node answers on {path}; this stays with {session.link.socket}", ctl.EXIT_CODES["unreachable"]
        )
    session.link.lead_to(there.socket)
    session.link.look()
    return 0


def _leave(session: Session) -> int:
    return session.run("exit")


def _list(_: Session) -> int:
    print("\n".join(f"\\{name.ljust(8)}  {about}" for name, about in METAS.items()))
    return 0


def _told(what: str, now: str) -> int:
    print(f"{what}: {now}", file=sys.stderr)
    return 0


_METAS: Final[Mapping[str, tuple[Callable[..., int], int]]] = {
    "x": (_expand, 0),
    "json": (_json, 0),
    "timing": (_time, 0),
    "pager": (_page, 1),
    "watch": (_watch, 1),
    "connect": (_connect, 1),
    "q": (_leave, 0),
    "?": (_list, 0),
}
