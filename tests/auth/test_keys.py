"""Inbound keys."""

from __future__ import annotations

import hashlib

import pytest

from runestone.auth.keys import KeyRing
from runestone.config.settings import InboundKey

WEB, BATCH = (InboundKey(name, hashlib.sha256(f"sk-{name}".encode()).digest()) for name in ("web", "batch"))
RING = KeyRing([WEB, BATCH])


@pytest.mark.parametrize(
    ("authorization", "api_key", "found"),
    [
        (b"Bearer sk-web", None, WEB),
        (b"bearer sk-batch", None, BATCH),
        (b"Bearer  sk-web ", None, WEB),
        (None, b"sk-web", WEB),
        (b"Basic c2s=", b"sk-batch", BATCH),
        (b"Bearer", b"sk-web", WEB),
        (b"Bearer sk-web", b"sk-batch", WEB),
        (b"Bearer wrong", b"sk-web", None),
        (b"Bearer sk-we", None, None),
        (b"Bearer sk-web2", None, None),
        (b"sk-web", None, None),
        (b"Bearer ", None, None),
        (b"", b"", None),
        (None, None, None),
        (b"Bearer " + WEB.digest, None, None),
        (b"Bearer " + WEB.digest.hex().encode(), None, None),
        (b"Bearer \xff\x00", None, None),
    ],
)
def test_a_request_is_known_by_its_bearer_token_or_its_x_api_key(
    authorization: bytes | None, api_key: bytes | None, found: InboundKey | None
) -> None:
    assert RING.authenticate(authorization, api_key) == found


def test_an_empty_ring_asks_nobody_and_knows_nobody() -> None:
    assert not KeyRing([])
    assert KeyRing([WEB])
    assert KeyRing([]).authenticate(b"Bearer sk-web", None) is None
    assert KeyRing([]).authenticate(None, None) is None
