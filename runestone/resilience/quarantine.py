"""A provider, or one model of it, that a retry does not heal: wrong credentials, spent quota, no such model."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

_ENTRIES = 64


@frozen
class Quarantine:
    """Scopes (``None``: the whole provider, else a model) and until when."""

    entries: Mapping[str | None, tuple[float, str]] = field(factory=dict)

    def add(self, now: float, scope: str | None, reason: str, seconds: float) -> Quarantine:
        """Take ``scope`` out for ``seconds``."""
        kept = {k: v for k, v in self.entries.items() if v[0] > now and k != scope}
        if len(kept) >= _ENTRIES:
            return self
        return Quarantine({**kept, scope: (now + seconds, reason)})

    def retry_after(self, model: str, now: float) -> float | None:
        """Seconds until ``model`` may be asked again."""
        if not self.entries:
            return None
        until = max((self.entries[k][0] for k in (None, model) if k in self.entries), default=now)
        return until - now if until > now else None

    def clear(self) -> Quarantine:
        """Nothing is out."""
        return Quarantine()
