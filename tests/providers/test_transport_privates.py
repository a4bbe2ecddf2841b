"""What the transport uses of aiohttp that aiohttp promises to nobody: an upgrade that changes it fails here first."""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict, deque
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from aiohttp import ClientTimeout, StreamReader, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD
from yarl import URL

from runestone.providers import transport

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def parameters(function: object) -> set[str]:
    assert callable(function)
    return set(inspect.signature(function).parameters)


def foreign_privates(source: str) -> set[str]:
    """Private names that are neither on ``self`` in a class of ours nor defined by it; ours on aiohttp's classes define in the body only."""
    found: set[str] = set()
    for block in ast.parse(source).body:
        inherits = isinstance(block, ast.ClassDef) and block.name in ("_Protocol", "_Connector")
        own = {
            name.id
            for statement in (block.body if isinstance(block, ast.ClassDef) else [])
            if isinstance(statement, ast.Assign)
            for name in statement.targets
            if isinstance(name, ast.Name)
        }
        for node in ast.walk(block):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                on_self = isinstance(node.value, ast.Name) and node.value.id == "self"
                if not on_self or (inherits and node.attr not in own):
                    found.add(node.attr)
    return found


def test_it_is_the_minor_version_that_was_read() -> None:
    assert version("aiohttp").split(".")[:2] == ["3", "14"]


def test_these_are_all_the_private_names() -> None:
    source = Path(transport.__file__).read_text(encoding="utf-8")

    assert foreign_privates(source) == {"_read_nowait", "_payload", "_conns", "_factory", "_loop"}


async def test_the_pool_is_a_dict_of_queues_of_protocols_with_a_time_and_makes_them_with_its_factory() -> None:
    connector = TCPConnector(limit=0, keepalive_timeout=20.0, ssl=True, timeout_ceil_threshold=1e9)

    assert isinstance(connector._conns, defaultdict)
    assert connector._conns.default_factory is deque
    assert isinstance(connector._factory, partial)
    assert connector._factory.func is ResponseHandler
    assert connector._factory.keywords == {"loop": connector._loop}
    protocol = connector._factory()
    key = ClientRequest("GET", URL("http://127.0.0.1/"), loop=connector._loop).connection_key
    connector._release(key, protocol)
    assert [kept for kept, _ in connector._conns[key]] == [protocol]
    connector._conns.clear()
    await connector.close()


async def test_a_protocol_tells_whether_it_may_be_used_and_has_its_body_where_it_is_looked_for() -> None:
    protocol = TCPConnector()._factory()

    assert protocol._payload is None
    assert protocol.transport is None
    assert protocol.exception() is None
    assert protocol.should_close is False
    assert inspect.iscoroutinefunction(ResponseHandler.read)
    wanted = {"read_until_eof", "auto_decompress", "max_line_size", "max_field_size"}
    assert wanted <= parameters(ResponseHandler.set_response_params)
    protocol.feed_data(("an answer that nobody asked for", EMPTY_PAYLOAD), 0)  # type: ignore[arg-type]
    assert protocol.should_close is True


def test_connections_requests_heads_and_bodies_have_what_is_used() -> None:
    assert {"connect", "close", "closed"} <= set(dir(TCPConnector))
    assert parameters(TCPConnector.connect) == {"self", "req", "traces", "timeout"}
    assert {"protocol", "transport", "release", "close"} <= set(dir(Connection))
    assert {"method", "url", "loop"} <= parameters(ClientRequest)
    assert {"code", "headers", "raw_headers"} <= set(dir(RawResponseMessage))
    assert parameters(StreamReader._read_nowait) == {"self", "n"}
    assert {"readany", "on_eof", "set_exception", "is_eof"} <= set(dir(StreamReader))
    assert {"connect", "ceil_threshold"} <= parameters(ClientTimeout)
