"""The way to a provider: an httpx transport over aiohttp's connections, whose C parser and pool stay quick under many open streams.

It uses aiohttp's connector and its protocol, not its session: per request that saves more than half. Everything that can go wrong with a
connection becomes an :class:`UpstreamError` here, once, with a message that holds no URL. The bytes of an answer are given as they arrive;
nothing is decompressed, redirected, remembered or retried, but for a request on a kept connection that the provider had closed before it
could know of the request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

import aiohttp
import certifi
import httpx
from aiohttp import ClientTimeout, StreamReader, TCPConnector, hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from runestone.domain.failure import Failure, UpstreamError
from runestone.providers.connection_errors import BROKEN, COMPRESSED, TOO_LARGE, UNSENDABLE, failure_of
from runestone.providers.stream import UpstreamStream

ANSWER_BYTES: Final = 64 * 1024 * 1024
_KEEPALIVE_SECONDS: Final = 20.0
_HEAD_LINE_BYTES: Final = 16 * 1024
_READ_ANYWAY_BYTES: Final = 64 * 1024  # what is larger may be refused before all of it is read
_ACKED: Final = struct.Struct("@120xQ")  # of tcp_info: bytes that the peer has acknowledged, ever
_CEIL_THRESHOLD_SECONDS: Final = 1e9  # aiohttp rounds timeouts above it to whole seconds


class ConnectionStream(UpstreamStream):
    """The body of an answer that comes over a connection of the pool."""

    def __init__(
        self, transport: Transport, connection: Connection, content: StreamReader, limit: int | None, *, keep: bool
    ) -> None:
        self._transport = transport
        self._connection = connection
        self._content = content
        self._left = limit
        self._closed = False
        content.on_eof(connection.release if keep else partial(_drop, connection))

    async def __anext__(self) -> bytes:
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            # What came before the break is still in the buffer, and may hold the end of the answer.
            data = self._content._read_nowait(-1)  # noqa: SLF001
            if not data:
                raise UpstreamError(BROKEN) from error
        if not data:
            raise StopAsyncIteration
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise UpstreamError(TOO_LARGE)
        return data

    def fail(self, error: UpstreamError) -> None:
        """Make the read in progress, and every later one, raise ``error``."""
        self._content.set_exception(error)

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end: then it is in the pool already."""
        if not self._closed:
            self._closed = True
            _drop(self._connection)
            await self._transport.closed(self)


class Transport(httpx.AsyncBaseTransport):
    """One pool of connections. Made and used inside a running loop.

    ``limit`` caps the connections, 0 stands for no cap: the provider's own concurrency limit is the queue, the pool is none.
    ``on_stale`` is called for each request that is sent once more because its connection had been closed.
    """

    def __init__(
        self,
        *,
        connect_timeout_seconds: float,
        limit: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        on_stale: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_stale = on_stale
        self._loop = asyncio.get_running_loop()
        self._timeout = ClientTimeout(connect=connect_timeout_seconds, ceil_threshold=_CEIL_THRESHOLD_SECONDS)
        self._connector = _Connector(
            limit=limit,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            ssl=ssl_context if ssl_context is not None else _default_context(),
            timeout_ceil_threshold=_CEIL_THRESHOLD_SECONDS,
        )
        self._origins: dict[tuple[bytes, bytes], ClientRequest] = {}
        self._streams: set[ConnectionStream] = set()
        self._pending = 0
        self._closing = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` and wait for the head of the answer.

        Raises:
            UpstreamError: ``refused``, ``disconnected``, ``dns``, ``tls``, ``connect_timeout``, ``invalid_answer``, ``too_large`` or
                ``unsupported``.
        """
        self._refuse_if_closing()
        self._pending += 1
        try:
            connection, message, content = await self._exchange(request)
            try:
                # What was not read yet would stand before the next request on the same connection.
                unread = message.code >= 400 and len(request.content) > _READ_ANYWAY_BYTES
                stream = ConnectionStream(self, connection, content, _limit(message), keep=not unread)
            except UpstreamError:
                _drop(connection)
                raise
            self._streams.add(stream)
        finally:
            self._pending -= 1
            await self._close_unused()
        return httpx.Response(message.code, headers=message.raw_headers, stream=stream)

    async def connect(self, url: httpx.URL) -> None:
        """Open a connection to where ``url`` leads and drop it (a kept one will do): a look whether anybody is there.

        Raises:
            UpstreamError: ``refused``, ``dns``, ``tls`` or ``connect_timeout``.
        """
        self._refuse_if_closing()
        self._pending += 1
        try:
            _drop(await self._connector.connect(self._origin(url), [], self._timeout))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamError(failure_of(error)) from error
        finally:
            self._pending -= 1
            await self._close_unused()

    async def aclose(self) -> None:
        """Take no new requests. Idle connections close at once, the others with their answers."""
        self._closing = True
        await self._close_unused()

    async def closed(self, stream: ConnectionStream) -> None:
        """``stream`` has been closed."""
        self._streams.discard(stream)
        await self._close_unused()

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise UpstreamError(Failure(kind="refused", message="the connections to this provider are being replaced"))

    async def _exchange(self, request: httpx.Request) -> tuple[Connection, RawResponseMessage, StreamReader]:
        data = _serialise(request)
        try:
            origin = self._origin(request.url)
            try:
                return await self._attempt(origin, data)
            except _StaleError:
                self._on_stale()
                self._connector.close_idle()  # the others were left by the same server, and now a new one must be opened
            return await self._attempt(origin, data)
        except (aiohttp.ClientError, HttpProcessingError, aiohttp.EofStream, OSError, ValueError) as error:
            raise UpstreamError(failure_of(error)) from error

    async def _attempt(self, origin: ClientRequest, data: bytes) -> tuple[Connection, RawResponseMessage, StreamReader]:
        connection = await self._connector.connect(origin, [], self._timeout)
        protocol = connection.protocol
        assert isinstance(protocol, _Protocol)
        try:
            protocol.send(data)
            message, content = await protocol.head()
        except BaseException as error:
            _drop(connection)
            if protocol.stale and isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
                raise _StaleError from error
            raise
        return connection, message, content

    def _origin(self, url: httpx.URL) -> ClientRequest:
        """What aiohttp's pool wants to know: where to. One for all requests to the same place."""
        key = (url.raw_scheme, url.netloc)
        origin = self._origins.get(key)
        if origin is None:
            where = URL(f"{url.scheme}://{url.netloc.decode('ascii')}/", encoded=True)
            origin = self._origins[key] = ClientRequest(hdrs.METH_GET, where, loop=self._loop)
        return origin

    async def _close_unused(self) -> None:
        """Close the idle connections, and the pool with the last stream. Nothing waits in here that a cancellation could interrupt."""
        if not self._closing:
            return
        self._connector.close_idle()
        if not self._streams and not self._pending and not self._connector.closed:
            await self._connector.close()


class _StaleError(aiohttp.ServerDisconnectedError):
    """The provider had closed a kept connection before one byte of the request had come: it may be sent once more."""


class _Protocol(ResponseHandler):
    """aiohttp's side of one connection, with what it does not tell and two ends of a body that it does not see."""

    _requests = 0
    _answered = False
    _acked = 0  # before the request
    _unseen = False

    @property
    def stale(self) -> bool:
        """Whether it is a kept connection that was closed without an answer, and nobody can have begun to work on the request.

        That is so if it was closed when the request was to be written, or if it was closed in order while no byte of the request had been
        acknowledged: the segment that closes a connection acknowledges all that has come before it was sent. A reset does not. Where
        nobody tells (another system than Linux, TLS on uvloop) it is taken for seen: the loop of retries decides, and it is counted.
        """
        return self._requests > 1 and not self._answered and self._unseen

    def send(self, data: bytes) -> None:
        """Begin a request. What came without one belongs to no answer, and ends the connection."""
        self._requests += 1
        self._answered = False
        transport = self.transport
        self._unseen = transport is None or transport.is_closing() or self.should_close
        if transport is None or self._unseen:
            raise aiohttp.ServerDisconnectedError
        if self._requests > 1:
            self._acked = _acked(transport)
        self.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=_HEAD_LINE_BYTES,
            max_field_size=_HEAD_LINE_BYTES,
        )
        transport.write(data)

    def eof_received(self) -> None:
        """The provider closes the connection."""
        if self._requests > 1 and not self._answered and self.transport is not None:
            self._unseen = self._acked == _acked(self.transport) >= 0
        super().eof_received()

    async def head(self) -> tuple[RawResponseMessage, StreamReader]:
        """The head of the answer, after those that only say that there will be one."""
        message, content = await self.read()
        while message.code < 200:
            if message.code < 100 or message.code == 101:
                raise HttpProcessingError(code=message.code, message="nobody asked for another protocol")
            message, content = await self.read()
        return message, content

    def data_received(self, data: bytes) -> None:
        self._answered = True
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """A body without a length is whole only if the connection ends well; after nonsense nothing would end it at all."""
        body = self._payload
        if body is not None and not body.is_eof() and (exc is not None or self.exception() is not None):
            body.set_exception(aiohttp.ClientPayloadError())
        super().connection_lost(exc)


class _Connector(TCPConnector):
    """aiohttp's pool of such connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        protocol: type[ResponseHandler] = _Protocol
        self._factory = partial(protocol, loop=self._loop)

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        for connections in self._conns.values():
            for protocol, _ in connections:
                protocol.close()
        self._conns.clear()


def _serialise(request: httpx.Request) -> bytes:
    parts = [request.method.encode("ascii"), b" ", request.url.raw_path, b" HTTP/1.1\r\n"]
    for name, value in request.headers.raw:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    head = b"".join(parts)
    lines = len(request.headers.raw) + 2
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise UpstreamError(UNSENDABLE)
    return head + request.content


def _acked(transport: asyncio.BaseTransport) -> int:
    """How many bytes the peer has acknowledged, ever. Linux tells; elsewhere it is -1."""
    connection = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return -1
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.size)
    return int(_ACKED.unpack(told)[0]) if len(told) == _ACKED.size else -1


def _drop(connection: Connection) -> None:
    """Close at once, without flushing: nobody waits for what a provider would still say, and it may never read what is unsent."""
    transport = connection.transport
    if transport is not None:
        transport.abort()
    connection.close()


def _limit(message: RawResponseMessage) -> int | None:
    """How many bytes the body may have, ``None`` for a stream. Refuses what must not be read."""
    headers = message.headers
    if message.code >= 400:  # the status says enough, whatever its words are packed in
        return ANSWER_BYTES
    for encoding in headers.getall(hdrs.CONTENT_ENCODING, ()):
        if encoding.strip().lower() not in ("", "identity"):
            raise UpstreamError(COMPRESSED)
    if headers.get(hdrs.CONTENT_TYPE, "").lower().startswith("text/event-stream"):
        return None
    length = headers.get(hdrs.CONTENT_LENGTH, "")
    if length.isdecimal() and int(length) > ANSWER_BYTES:
        raise UpstreamError(TOO_LARGE)
    return ANSWER_BYTES


@lru_cache(maxsize=1)
def _default_context() -> ssl.SSLContext:
    """The system's authorities and certifi's; verification is on, and there is no switch for off."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
