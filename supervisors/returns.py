"""What a callback of a :class:`~supervisors.GenServer` may return, beside ``None`` and a reply."""

from __future__ import annotations

from typing import Any, Final, final

from supervisors.exit import ExitReason, Normal


@final
class NoReply:
    """The type of :data:`NO_REPLY`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NO_REPLY"


NO_REPLY: Final = NoReply()
"""Returned by ``handle_call``: the reply comes later, by ``caller.reply``, or from somebody else, by ``forward``."""


class Continue:
    """Run ``handle_continue(term)`` before anything that is queued."""

    __slots__ = ("term",)
    __match_args__ = ("term",)

    def __init__(self, term: Any = None) -> None:
        self.term = term

    def __repr__(self) -> str:
        return f"Continue({self.term!r})"


class Timeout:
    """Get a :class:`~supervisors.TimedOut` unless a message comes within ``seconds``. It fires once; any message cancels it."""

    __slots__ = ("seconds",)
    __match_args__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"Timeout({self.seconds!r})"


class Ignore:
    """Returned by ``init``: do not start, and that is no error."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Ignore()"


class Reply:
    """Returned by ``handle_call``: answer with ``value``, and then ``then``."""

    __slots__ = ("then", "value")
    __match_args__ = ("value", "then")

    def __init__(self, value: Any, then: Continue | Timeout | None = None) -> None:
        self.value = value
        self.then = then

    def __repr__(self) -> str:
        return f"Reply({self.value!r}, then={self.then!r})"


class Stop:
    """End with ``reason``: ``terminate`` runs, and then the caller gets ``reply``, if there is one.

    From ``init`` it makes the start fail with ``reason``, and ``terminate`` does not run.
    """

    __slots__ = ("reason", "reply")
    __match_args__ = ("reason",)

    def __init__(self, reason: ExitReason | None = None, *, reply: Any = NO_REPLY) -> None:
        self.reason: ExitReason = Normal() if reason is None else reason
        self.reply = reply

    def __repr__(self) -> str:
        return f"Stop({self.reason!r})"
