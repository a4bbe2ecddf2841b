"""What hypercorn lets through and must not reach a route: requests that two servers could read differently, and other protocols."""

from __future__ import annotations

from starlette.types import Scope

from runestone.domain.errors import InvalidRequest

_MAX_HEADERS = 100
_MAX_HEADER_BYTES = 32 * 1024


def objection(scope: Scope) -> InvalidRequest | None:
    """Why this request is refused before anything else, or ``None``.

    A message with both Content-Length and Transfer-Encoding is an attempt at smuggling, or looks like one (RFC 9112 §6.1).
    """
    if scope["http_version"] not in ("1.0", "1.1"):
        return InvalidRequest("HTTP/2 is not spoken here. Use HTTP/1.1.", status=505, code="http_version_not_supported")
    names = [name for name, _ in scope["headers"]]
    if b"content-length" in names and b"transfer-encoding" in names:
        return InvalidRequest(
            "A request has either Content-Length or Transfer-Encoding. Send one of them.", code="ambiguous_length"
        )
    if len(names) > _MAX_HEADERS or sum(len(k) + len(v) for k, v in scope["headers"]) > _MAX_HEADER_BYTES:
        return InvalidRequest(
            f"The request has more than {_MAX_HEADERS} headers or {_MAX_HEADER_BYTES} bytes of them. Send fewer.",
            status=431,
            code="headers_too_large",
        )
    return None
