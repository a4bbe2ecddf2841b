"""Which calls a provider bills, as one pure function. The table stands in the package's docstring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from runestone.config.settings import Price
from runestone.costs.prices import booked
from runestone.domain.chat import Api, Usage
from runestone.domain.failure import FailureKind

Billed = Literal["whole", "at_least", "nothing", "unknown"]

#: Ends of calls that no model has worked for, or whose vendors say that they bill nothing for them.
FREE: Final[frozenset[FailureKind]] = frozenset(
    {
        "refused",
        "dns",
        "tls",
        "connect_timeout",
        "unsupported",
        "caller_error",
        "credentials",
        "forbidden",
        "not_found",
        "rate_limited",
        "quota_exceeded",
        "overloaded",
        "server_error",
    }
)
_FREE_ROUTES: Final[frozenset[Api]] = frozenset({"count_tokens"})


def billed(outcome: str, usage: Usage | None, *, content: bool, api: Api = "chat") -> Billed:
    """What of a call is billed that ended as ``outcome`` (as an attempt's event tells it), with ``content`` or before any.

    ``whole``: all of ``usage``. ``at_least``: ``usage``, and what was made since it was told. ``unknown``: something, or nothing.
    """
    if api in _FREE_ROUTES:
        return "nothing"
    if usage is not None and (usage.input_tokens or usage.output_tokens):
        return "whole" if outcome == "ok" else "at_least"
    return "nothing" if outcome in FREE and not content else "unknown"


def charged(usage: Usage | None, *, api: Api, model: str, own: Mapping[str, Price]) -> int | None:
    """What the provider itself says that a call costs, in picodollars. It counts for nothing where the operator has a price of his own."""
    if usage is None or model in own or api in _FREE_ROUTES:
        return None
    return usage.charged_picodollars


def call_cost(
    outcome: str,
    usage: Usage | None,
    *,
    content: bool,
    api: Api,
    kind: str,
    model: str,
    own: Mapping[str, Price],
    at_epoch: float | None = None,
) -> int | None:
    """Picodollars for one call: 0 where nothing is billed, ``None`` where it is not known; else that of its usage."""
    what = billed(outcome, usage, content=content, api=api)
    if what == "nothing":
        return 0
    if what == "unknown":
        return None
    assert usage is not None
    return booked(usage, kind, model, own, at_epoch)
