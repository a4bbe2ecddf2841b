"""A provider, or one model of it, that a retry does not heal: wrong credentials, spent quota, no such model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

_MODELS: Final = 64  # models of one provider that are out at once; names come from clients, so they are bounded


@frozen
class Quarantine:
    """Scopes (``None``: the whole provider, else a model), until when each is out, and why."""

    entries: Mapping[str | None, tuple[float, str]] = field(factory=dict)

    def add(self, now: float, scope: str | None, reason: str, seconds: float) -> Quarantine:
        """Take ``scope`` out for ``seconds``, or longer where it is out for longer already.

        A model more than can be kept is not taken out; the provider as a whole always is.
        """
        kept = {k: v for k, v in self.entries.items() if v[0] > now}
        until = now + seconds
        if scope in kept:
            until = max(until, kept.pop(scope)[0])
        if scope is not None and len(kept.keys() - {None}) >= _MODELS:
            return Quarantine(kept)
        return Quarantine({**kept, scope: (until, reason)})

    def retry_after(self, model: str | None, now: float) -> float | None:
        """Seconds until ``model`` may be asked again; ``None`` when it may be now."""
        if not self.entries:
            return None
        until = max((self.entries[k][0] for k in (None, model) if k in self.entries), default=now)
        return until - now if until > now else None

    def reason(self, model: str | None, now: float) -> str | None:
        """Why ``model`` is out; a provider that is out as a whole goes first."""
        for scope in (None, model):
            until, why = self.entries.get(scope, (now, ""))
            if until > now:
                return why
        return None

    def clear(self) -> Quarantine:
        """Nothing is out."""
        return Quarantine()
