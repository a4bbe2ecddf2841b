"""What no client library would send: framing that two servers could read differently, and bytes that are no HTTP at all.

None of it is a bug of the node, none keeps a connection for ever, and what stands behind a request whose end is in doubt is not served.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.e2e.node import Gateway, Upstream
from tests.e2e.raw import BODY, statuses

pytestmark = pytest.mark.anyio
SMUGGLED: Final = b"GET /v1/smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
LENGTH: Final = b"content-length: %d" % len(BODY)
HOST: Final = b"host: localhost"
CHUNKED: Final = b"transfer-encoding: chunked"
CHUNKS: Final = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LIMIT_SECONDS: Final = 30.0  # a head gets ten, so that this is no measurement


def asked(*headers: bytes, line: bytes = b"POST /v1/chat/completions HTTP/1.1", body: bytes = BODY) -> bytes:
    """A chat request with exactly these ``headers`` and its media type."""
    return b"\r\n".join((line, b"content-type: application/json", *headers)) + b"\r\n\r\n" + body


def doubtful() -> Iterator[tuple[str, bytes]]:
    """Requests of which nobody can say for sure where they end, or what they are: refused, and nothing behind them is served."""
    for value in (b"+%d", b"-%d", b"0x%x", b"%d %d", b"%d, 1", b"%d.0", b"%d;", b"%de0", b"%d\x0b", b"%d\x00", b"x%d"):
        told = value.replace(b"%d", b"%d" % len(BODY)).replace(b"%x", b"%x" % len(BODY))
        yield f"a length of {value!r}", asked(HOST, b"content-length: " + told)
    yield "an empty length", asked(HOST, b"content-length:")
    yield "a length in Arabic digits", asked(HOST, "content-length: ٤٤".encode())
    yield "a length beyond all", asked(HOST, b"content-length: " + b"9" * 40)
    yield "two lengths", asked(HOST, LENGTH, b"content-length: 3")
    yield "two lengths, the other way around", asked(HOST, b"content-length: 3", LENGTH)
    for coding in (b"chunked", b"Chunked", b" chunked", b"\tchunked", b"chunked "):
        yield f"both lengths, {coding!r}", asked(HOST, LENGTH, b"transfer-encoding:" + coding, body=CHUNKS)
        yield f"both lengths, {coding!r} first", asked(HOST, b"transfer-encoding:" + coding, LENGTH, body=CHUNKS)
    for coding in (
        b"xchunked",
        b"chunked, chunked",
        b"chunked, identity",
        b"gzip, chunked",
        b"chunked;q=1",
        b"\x0bchunked",
        b"chunked\x00",
        b'"chunked"',
        b"cow",
        b"",
    ):
        yield f"a coding of {coding!r}", asked(HOST, b"transfer-encoding: " + coding, body=CHUNKS)
    yield "two codings", asked(HOST, CHUNKED, b"transfer-encoding: identity", body=CHUNKS)
    for name in (b"transfer-encoding ", b"transfer\x00-encoding", b"transfer encoding", b"transfer-encoding\t"):
        yield f"a header {name!r}", asked(HOST, name + b": chunked", body=CHUNKS)
    for name in (b"content-length ", b"content\x00-length", b"content length"):
        yield f"a header {name!r}", asked(HOST, name + b": %d" % len(BODY))
    for size in (b"+3", b"-3", b"0x3", b"g", b"", b"3 3", b"F" * 30, b"\xd9\xa3", b"3\x00"):
        yield f"a chunk of {size!r}", asked(HOST, CHUNKED, body=size + b"\r\n{} \r\n0\r\n\r\n")
    yield "a chunk longer than told", asked(HOST, CHUNKED, body=b"1\r\n{}\r\n0\r\n\r\n")
    yield "a chunk without its end", asked(HOST, CHUNKED, body=b"2\r\n{}0\r\n\r\n")
    yield "two hosts", asked(HOST, b"host: evil.example", LENGTH)
    yield "no host", asked(LENGTH)
    for host in (b"a b", b"local\x00host", b"localhost/x?y", b"evil.example", b"localhost@evil.example", b"\xff"):
        yield f"a host {host!r}", asked(b"host: " + host, LENGTH)
    for header in (
        b"no colon",
        b": no name",
        b"a name: x",
        b"nul\x00: x",
        b"x: nul\x00",
        b"x: c\rr",
        b"(x): y",
        b"\xff: y",
    ):
        yield f"a header {header!r}", asked(HOST, header, LENGTH)
    yield (
        "a fold before the first header",
        b"POST /v1/chat/completions HTTP/1.1\r\n folded: x\r\n" + asked(HOST, LENGTH)[38:],
    )
    for version in (
        b"HTTP/2.0",
        b"HTTP/3.7",
        b"HTTP/0.9",
        b"http/1.1",
        b"HTTP/11",
        b"HTTP/1",
        b"HTTP/1.10",
        b"",
        b"HTTP/1.1 x",
    ):
        yield f"a version {version!r}", asked(HOST, LENGTH, line=b"POST /v1/chat/completions " + version)
    for method in (b"PO ST", b"", b"POST\x00", b"\xff", b"PO(ST", b"PO:ST"):
        yield f"a method {method!r}", asked(HOST, LENGTH, line=method + b" /v1/chat/completions HTTP/1.1")
    for target in (b"/v1/ chat", b"/v1/\x00", b"/v1/\xc3\xa9", b"/v1/\x7f", b"", b"/v1/\rx"):
        yield f"a target {target!r}", asked(HOST, LENGTH, line=b"POST " + target + b" HTTP/1.1")
    for noise in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"EHLO localhost\r\n\r\n",
        b"\xff" * 100,
        b"\x00" * 100,
        b"{}\r\n\r\n",
    ):
        yield f"{noise[:12]!r} in place of a request", noise


def odd() -> Iterator[tuple[str, bytes]]:
    """Requests that are odd and end where all say that they do: whatever becomes of them, it is no failure of the node."""
    whole = asked(HOST, LENGTH)
    yield "bare line feeds", whole.replace(b"\r\n", b"\n")
    yield "blank lines before", b"\r\n\r\n" + whole
    yield "a folded header", asked(HOST, b"x: a\r\n b", LENGTH)
    yield "the same length twice", asked(HOST, LENGTH, LENGTH)
    yield "a length with blanks", asked(HOST, b"content-length: \t %d \t" % len(BODY))
    yield "a length with zeros", asked(HOST, b"content-length: 000%d" % len(BODY))
    yield "chunks", asked(HOST, CHUNKED, body=CHUNKS)
    yield "chunks with extensions", asked(HOST, CHUNKED, body=CHUNKS.replace(b"\r\n{", b';a="b"\r\n{', 1))
    yield "chunks with trailers", asked(HOST, CHUNKED, body=CHUNKS[:-2] + b"x: y\r\n\r\n")
    yield "chunks with a length behind them", asked(HOST, CHUNKED, body=CHUNKS[:-2] + b"content-length: 3\r\n\r\n")
    yield "chunks of one byte", asked(HOST, CHUNKED, body=b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n")
    yield "HTTP/1.0", asked(HOST, LENGTH, line=b"POST /v1/chat/completions HTTP/1.0")
    yield "HTTP/1.0 without a host", asked(LENGTH, line=b"POST /v1/chat/completions HTTP/1.0")
    yield "chunks in HTTP/1.0", asked(HOST, CHUNKED, line=b"POST /v1/chat/completions HTTP/1.0", body=CHUNKS)
    for target in (
        b"http://localhost/v1/chat/completions",
        b"http://evil.example/v1/chat/completions",
        b"localhost:80",
        b"*",
        b"v1/chat/completions",
        b"//evil.example/v1/chat/completions",
        b"/%2e%2e%2fadmin",
        b"/v1/../v1/chat/completions",
        b"/v1/%00",
        b"/v1/%ff",
        b"/v1/%",
        b"/v1/chat/completions?",
        b"/v1/chat/completions#x",
        b"/v1/chat/completions/",
        b"/v1/" + b"x" * 20_000,
        b"/v1/models/" + b"%2e" * 500,
        b"/?" + b"a=b&" * 2_000,
    ):
        yield f"a target {target[:40]!r} of {len(target)}", asked(HOST, LENGTH, line=b"POST " + target + b" HTTP/1.1")
        yield f"a target {target[:40]!r} to get", asked(HOST, line=b"GET " + target + b" HTTP/1.1", body=b"")
    for method in (
        b"get",
        b"PATCH",
        b"TRACE",
        b"CONNECT",
        b"OPTIONS",
        b"HEAD",
        b"DELETE",
        b"M" * 1000,
        b"!#$%&'*+-.^_`|~",
    ):
        yield f"a method {method[:9]!r}", asked(HOST, LENGTH, line=method + b" /v1/chat/completions HTTP/1.1")
    for header in (
        b"x: " + b"y" * 17_000,
        b"y" * 17_000 + b": x",
        b"x: \xff\xfe",
        b"x:",
        b"x: \x7f",
        b"x: \x0b\x0c",
        b"expect: 100-continue",
        b"expect: nonsense",
        b"connection: close, upgrade",
        b"connection: host",
        b"connection: \xff",
        b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA",
        b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
        b"te: trailers, cow;q=0",
        b"content-encoding: gzip",
        b"content-type: text/plain",
        b"x-runestone-group: \xff\xfe",
        b"authorization: Bearer \xff",
        b"transfer_encoding: chunked",
        b"traceparent: 00-\x00",
        b"cookie: " + b"a=b;" * 4000,
        b"\r\n".join(b"x-%d: y" % n for n in range(99)),
        b"\r\n".join(b"x-%d: y" % n for n in range(3000)),
    ):
        yield f"a header {header[:40]!r} of {len(header)}", asked(HOST, header, LENGTH)
    for host in (b"localhost:99999", b"LOCALHOST", b"127.0.0.1", b"[::1]", b"[::1", b"localhost:", b""):
        yield f"a host {host!r}", asked(b"host: " + host, LENGTH)
    for end in range(1, len(whole), 23):
        yield f"the first {end} bytes", whole[:end]


DOUBTFUL: Final = dict(doubtful())
ODD: Final = dict(odd())


async def told(node: Gateway, data: bytes, at_once: int) -> bytes | None:
    """What comes for ``data``, sent in pieces; ``None``: nothing, and the connection is open still. An end of the request is no wait."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    received = b""
    try:
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), at_once):
                writer.write(data[start : start + at_once])
                await asyncio.sleep(0)
            async with asyncio.timeout(LIMIT_SECONDS):
                while more := await reader.read(65536):
                    received += more
                    if not received.partition(b"\r\n\r\n")[0].lower().count(b"connection: close"):
                        break
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1.0):  # whatever else is answered
                while more := await reader.read(65536):
                    received += more
    except TimeoutError:
        return None
    finally:
        writer.transport.abort()
    return received


async def all_told(
    node: Gateway, corpus: dict[str, bytes], at_once: int, behind: bytes = b""
) -> dict[str, bytes | None]:
    gate = asyncio.Semaphore(40)

    async def one(data: bytes) -> bytes | None:
        async with gate:
            return await told(node, data + behind, at_once)

    return dict(zip(corpus, await asyncio.gather(*map(one, corpus.values())), strict=True))


@pytest.mark.parametrize("at_once", [1_000_000, 7])
async def test_what_may_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_served(
    node: Gateway, primary: Upstream, at_once: int
) -> None:
    answers = await all_told(node, DOUBTFUL, at_once, behind=SMUGGLED)

    assert [name for name, answer in answers.items() if answer is None] == []
    found = {name: statuses(answer or b"") for name, answer in answers.items()}
    assert {
        name: codes for name, codes in found.items() if len(codes) > 1 or not {*codes} <= {400, 403, 404, 431, 501, 505}
    } == {}
    assert [name for name, answer in answers.items() if b"/v1/smuggled" in (answer or b"")] == []
    assert primary.requests() == []
    assert "bug" not in node.told()


@pytest.mark.parametrize("at_once", [1_000_000, 7])
async def test_what_is_odd_is_served_or_refused_and_never_a_failure_of_the_node(
    serve: Callable[..., Gateway], at_once: int
) -> None:
    node = serve(RUNESTONE_BODY_TIMEOUT_MS="2000")
    answers = await all_told(node, ODD, at_once)

    assert [name for name, answer in answers.items() if answer is None] == []
    found = {name: statuses(answer or b"") for name, answer in answers.items()}
    assert {name: codes for name, codes in found.items() if any(code >= 500 and code != 501 for code in codes)} == {}
    assert "bug" not in node.told()
    assert node.post({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "?"}]}).status_code == 200


def test_the_corpus_is_as_large_as_was_meant() -> None:
    assert 2 * (len(DOUBTFUL) + len(ODD)) >= 300
