"""What protects a node without inbound keys from the web pages that its user has open: only this machine's own programs may ask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from runestone.domain.errors import InvalidRequest, NotAllowed, RunestoneError

#: A name or an address and a port, nothing else.
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def refusal(headers: Mapping[bytes, bytes]) -> RunestoneError | None:
    """Why a request to a node without keys is refused, or ``None``: a foreign Host (DNS rebinding) or Origin, a body other than JSON.

    ``headers`` by lower-case name. A page may send a form, or text without a type, to any address unasked; JSON it may not.
    """
    host = headers.get(b"host", b"localhost")
    if not _HOST.fullmatch(host) or not _is_local(_hostname("//" + host.decode("ascii"))):
        return NotAllowed(
            "Without inbound keys only a loopback Host is served. Use http://localhost, or set RUNESTONE_API_KEYS."
        )
    origin = headers.get(b"origin")
    if origin is not None and not _is_local(_hostname(origin.decode("latin-1"))):
        return NotAllowed("Without inbound keys no foreign Origin is served. Set RUNESTONE_API_KEYS.")
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip() != b"0"
    if (kind or has_body) and kind != b"application/json":
        return InvalidRequest("Send JSON as Content-Type: application/json.", status=415, code="unsupported_media_type")
    return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_local(host: str | None) -> bool:
    return host is not None and (host in _LOCAL or (host.startswith("127.") and host.replace(".", "").isdigit()))
