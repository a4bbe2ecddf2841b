"""What the health port and the console say before all of the tree is there: a gateway in this process, whose start is not over yet."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from runestone import app
from runestone.config.load import read

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("path", ["/health/ready", "/health/detailed"])
async def test_a_node_whose_tree_is_not_all_there_says_that_it_is_starting(tmp_path: Path, path: str) -> None:
    ports = {"RUNESTONE_PORT": "0", "RUNESTONE_HEALTH_PORT": "0"}
    environ = {**ports, "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock")}
    running = await app.launch(read(environ), lambda: read(environ), demo=True)
    node = running.node
    try:
        async with httpx.AsyncClient(base_url=node.listeners["health"].removesuffix("/health")) as client:
            root, node.root = node.root, None  # as it is while the tree starts
            during = await client.get(path)
            node.root = root
            after = await client.get(path)
    finally:
        await running.stop()

    assert (during.status_code, during.json()["status"]) == (503, "starting")
    assert after.status_code == 200


async def test_the_console_says_that_the_node_or_a_provider_is_starting(tmp_path: Path) -> None:
    ports = {"RUNESTONE_PORT": "0", "RUNESTONE_HEALTH_PORT": "0"}
    environ = {**ports, "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock")}
    running = await app.launch(read(environ), lambda: read(environ), demo=True)
    node = running.node
    memory = node.memories["openai-default"]
    try:
        transport = httpx.AsyncHTTPTransport(uds=environ["RUNESTONE_ADMIN_SOCKET"])
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            root, node.root = node.root, None  # as it is while the tree starts
            lists = [(await client.get(path)).json()["error"] for path in ("/v1/providers", "/v1/breakers")]
            status = (await client.get("/v1/status")).json()
            node.root = root
            incarnation, memory.incarnation = memory.incarnation, 0  # as it is until its actor has begun
            new = (await client.get("/v1/providers/openai-default")).json()["provider"]
            memory.incarnation = incarnation
            begun = (await client.get("/v1/providers/openai-default")).json()["provider"]
    finally:
        await running.stop()

    assert [(error["code"], error["message"]) for error in lists] == [("unavailable", "the tree is starting")] * 2
    assert (status["phase"], status["status"]) == ("starting", "degraded")
    assert (new["status"], new["usable"]) == ("starting", False)
    assert (begun["status"], begun["usable"]) == ("up", True)
