"""Inbound keys: looked up by digest, compared in constant time, the same work for a missing one as for a wrong one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from runestone.config.live import Live
from runestone.config.settings import AuthSettings, InboundKey

_NOBODY = bytes(32)


class KeyRing:
    """The keys that clients may send. Empty (false): nobody is asked for one."""

    def __init__(self, keys: Sequence[InboundKey]) -> None:
        self._keys = {key.digest: key for key in keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def authenticate(self, authorization: bytes | None, api_key: bytes | None) -> InboundKey | None:
        """The key in ``Authorization: Bearer``, else in ``x-api-key``, if it is one of these; both wires may send either."""
        scheme, _, token = (authorization or b"").partition(b" ")
        presented = token.strip() if scheme.lower() == b"bearer" and token else api_key or b""
        digest = hashlib.sha256(presented).digest()
        key = self._keys.get(digest)
        known = hmac.compare_digest(digest, key.digest if key is not None else _NOBODY)
        return key if known else None


class KeysInForce:
    """The key ring of the settings in force, made anew when they have changed: a key that is taken away is refused from then on."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._made_of: AuthSettings | None = None
        self._ring = KeyRing(())

    def __call__(self) -> KeyRing:
        """The ring of this moment."""
        auth = self._live.settings.auth
        if auth is not self._made_of:
            self._made_of, self._ring = auth, KeyRing(auth.keys)
        return self._ring
