"""aiohttp's exceptions as failures, in one table. No message holds a URL or a name."""

from __future__ import annotations

import os
import ssl
from typing import Final

import aiohttp
from aiohttp.http import HttpProcessingError

from runestone.domain.failure import Failure, FailureKind

BROKEN: Final = Failure(kind="truncated", message="the connection broke in the middle of the answer")
TOO_LARGE: Final = Failure(kind="too_large", message="the answer is larger than 64 MiB")
COMPRESSED: Final = Failure(kind="invalid_answer", message="the answer is compressed, which was not asked for")
UNSENDABLE: Final = Failure(kind="unsupported", message="the request holds a header that cannot be sent")


def failure_of(error: Exception) -> Failure:
    """Why there is no answer. The order matters: aiohttp's errors of certificates and names are connection errors too."""
    kind: FailureKind = "disconnected"
    message = "the connection was lost before an answer"
    match error:
        case TimeoutError() if not isinstance(error, aiohttp.ClientError) and error.errno is None:
            kind, message = "connect_timeout", "the connection took too long"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            kind, message = "tls", f"the TLS handshake failed: {_reason(error)}"
        case aiohttp.ClientConnectorDNSError() | UnicodeError():  # the second for what cannot be a name at all
            kind, message = "dns", "the host name could not be resolved"
        case HttpProcessingError() | aiohttp.ClientResponseError():
            kind, message = "invalid_answer", "the answer is not HTTP"
        case ValueError():
            kind, message = "refused", "the base URL is no address"
        case aiohttp.ClientConnectorError(os_error=ConnectionResetError(errno=None)):
            # Not the system's error but the loop's own, for a peer that left politely: so it had been connected.
            kind, message = "tls", "the connection was lost in the TLS handshake"
        case aiohttp.ClientConnectorError():
            kind, message = "refused", f"the connection failed: {_reason(error)}"
        case _:
            pass
    return Failure(kind=kind, message=message)


def _reason(error: Exception) -> str:
    """The operating system's or OpenSSL's own words: they hold neither names nor addresses."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "the certificate is not trusted" if not cause.verify_message else cause.verify_message.split(",")[0]
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or "protocol error").lower().replace("_", " ")
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    return "unreachable"
