"""What the health port says before all of the tree is there: a gateway in this process, whose start is not over yet."""

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
