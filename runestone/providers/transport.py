"""The way to a provider: an httpx transport over aiohttp's client, whose C parser and pool stay quick under many open streams.

Everything that can go wrong with a connection becomes an :class:`UpstreamError` here, once, with a message that holds no URL. The bytes of
an answer are given as they arrive; nothing is decompressed, redirected, retried (but for one stale connection) or remembered.
"""

from __future__ import annotations

import os
import ssl
from contextvars import ContextVar
from functools import lru_cache
from typing import Final, Self

import aiohttp
import certifi
import httpx
from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector, hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.tracing import Trace
from multidict import CIMultiDict
from yarl import URL

from runestone.domain.failure import Failure, FailureKind, UpstreamError

ANSWER_BYTES: Final = 64 * 1024 * 1024
_KEEPALIVE_SECONDS: Final = 20.0
_HEAD_LINE_BYTES: Final = 16 * 1024
_CEIL_THRESHOLD_SECONDS: Final = 1e9  # aiohttp rounds longer timeouts up to whole seconds
_SKIPPED: Final = (hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE)

#: Whether the attempt that runs in this task has opened a connection of its own. aiohttp does not tell, and only a reused one can be stale.
_connected: ContextVar[bool] = ContextVar("_connected", default=False)


class UpstreamStream(httpx.AsyncByteStream):
    """The body of an answer. Whoever got it must :meth:`aclose` it, in every case; that takes no time."""

    def __init__(self, transport: Transport, response: ClientResponse, limit: int | None) -> None:
        self._transport = transport
        self._response = response
        self._content = response.content
        self._left = limit
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(_BROKEN) from error
        if not data:
            raise StopAsyncIteration
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise UpstreamError(_TOO_LARGE)
        return data

    def fail(self, error: UpstreamError) -> None:
        """Make the read in progress, and every later one, raise ``error``."""
        self._content.set_exception(error)

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if not self._closed:
            self._closed = True
            self._response.close()
            await self._transport.closed(self)


class Transport(httpx.AsyncBaseTransport):
    """One pool of connections. Made and used inside a running loop.

    ``limit`` caps the connections, 0 stands for no cap: the provider's own concurrency limit is the queue, the pool is none.
    """

    def __init__(
        self, *, connect_timeout_seconds: float, limit: int = 0, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._ssl = ssl_context if ssl_context is not None else _default_context()
        self._timeout = ClientTimeout(connect=connect_timeout_seconds, ceil_threshold=_CEIL_THRESHOLD_SECONDS)
        self._limit = limit
        self._connector = _Connector(
            limit=limit,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            ssl=self._ssl,
            timeout_ceil_threshold=_CEIL_THRESHOLD_SECONDS,
        )
        self._session = self._open_session(self._connector)
        self._fresh: ClientSession | None = None  # without keep-alive, for the second try after a stale connection
        self._streams: set[UpstreamStream] = set()
        self._pending = 0
        self._closing = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` and wait for the head of the answer.

        Raises:
            UpstreamError: ``refused``, ``dns``, ``tls``, ``connect_timeout``, ``invalid_answer`` or ``too_large``.
        """
        if self._closing:
            raise UpstreamError(Failure(kind="refused", message="the connection pool was replaced"))
        self._pending += 1
        try:
            response = await self._send(request)
            try:
                stream = UpstreamStream(self, response, _limit(response))
            except UpstreamError:
                response.close()
                raise
            self._streams.add(stream)
        finally:
            self._pending -= 1
            await self._close_if_unused()
        return httpx.Response(response.status, headers=response.raw_headers, stream=stream)

    async def aclose(self) -> None:
        """Take no new requests. Idle connections close at once, the others with their answers."""
        self._closing = True
        await self._close_if_unused()

    async def closed(self, stream: UpstreamStream) -> None:
        """``stream`` has been closed."""
        self._streams.discard(stream)
        await self._close_if_unused()

    async def _send(self, request: httpx.Request) -> ClientResponse:
        headers = CIMultiDict([(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw])
        url, body = _url(str(request.url)), request.content
        _connected.set(False)
        try:
            try:
                return await self._session.request(request.method, url, headers=headers, data=body, allow_redirects=False)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if _connected.get() or _has_begun(error):
                    raise
                session = self._fresh_session()
            return await session.request(request.method, url, headers=headers, data=body, allow_redirects=False)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamError(_unopened(error)) from error

    def _fresh_session(self) -> ClientSession:
        if self._fresh is None:
            connector = TCPConnector(
                limit=self._limit, force_close=True, ssl=self._ssl, timeout_ceil_threshold=_CEIL_THRESHOLD_SECONDS
            )
            self._fresh = self._open_session(connector)
        return self._fresh

    def _open_session(self, connector: TCPConnector) -> ClientSession:
        return ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_SKIPPED,
            auto_decompress=False,
            trust_env=False,
            max_line_size=_HEAD_LINE_BYTES,
            max_field_size=_HEAD_LINE_BYTES,
        )

    async def _close_if_unused(self) -> None:
        """Nothing waits in here: what is closed is idle, so that a cancelled caller leaves nothing half closed."""
        if not self._closing:
            return
        self._connector.close_idle()
        if not self._streams and not self._pending:
            await self._session.close()
            if self._fresh is not None:
                await self._fresh.close()


class _Connector(TCPConnector):
    """aiohttp's pool, with the two things that it does not tell or do."""

    async def _create_connection(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> ResponseHandler:
        _connected.set(True)
        return await super()._create_connection(req, traces, timeout)

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        for connections in self._conns.values():
            for protocol, _ in connections:
                protocol.close()
        self._conns.clear()


_TOO_LARGE: Final = Failure(kind="too_large", message=f"the answer is larger than {ANSWER_BYTES} bytes")
_BROKEN: Final = Failure(kind="truncated", message="the connection broke in the middle of the answer")


def _limit(response: ClientResponse) -> int | None:
    """How many bytes the body may have, ``None`` for a stream. Refuses what must not be read."""
    headers = response.headers
    encoding = headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise UpstreamError(Failure(kind="invalid_answer", message="the answer is compressed, which was not asked for"))
    if headers.get(hdrs.CONTENT_TYPE, "").lower().startswith("text/event-stream"):
        return None
    if (response.content_length or 0) > ANSWER_BYTES:
        raise UpstreamError(_TOO_LARGE)
    return ANSWER_BYTES


def _has_begun(error: Exception) -> bool:
    """Whether a part of an answer came before the connection was lost."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)


def _unopened(error: Exception) -> Failure:
    """Why there is no answer. The order matters: aiohttp's certificate and DNS errors are connection errors too."""
    kind: FailureKind = "refused"
    message = "the connection was lost before an answer"
    match error:
        case aiohttp.ServerTimeoutError():
            kind, message = "connect_timeout", "the connection took too long"
        case aiohttp.ClientSSLError() | ssl.SSLError() | ssl.CertificateError():
            kind, message = "tls", f"the TLS handshake failed: {_reason(error)}"
        case aiohttp.ClientConnectorDNSError():
            kind, message = "dns", "the host name could not be resolved"
        case aiohttp.ClientResponseError():
            kind, message = "invalid_answer", "the answer is not HTTP"
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            message = "the base URL is not a usable address"
        case aiohttp.ClientConnectorError():
            message = f"the connection failed: {_reason(error)}"
        case ValueError():
            kind, message = "unsupported", "the request holds a header that cannot be sent"
    return Failure(kind=kind, message=message)


def _reason(error: Exception) -> str:
    """The operating system's or OpenSSL's own words: they hold neither names nor addresses."""
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message or "certificate verification failed"
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or "protocol error").lower().replace("_", " ")
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    return "unreachable"


@lru_cache(maxsize=256)
def _url(url: str) -> URL:
    return URL(url, encoded=True)


@lru_cache(maxsize=1)
def _default_context() -> ssl.SSLContext:
    """The system's authorities and certifi's; verification is on, and there is no switch for off."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
