"""What a tail costs those who do not read it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from runestone.console.tails import tail

pytestmark = pytest.mark.anyio
PAGE = 1000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def page(query: Mapping[str, Any]) -> dict[str, Any]:
    """There are always more lines."""
    behind = int(query.get("since", 0))
    return {"lines": [{"seq": behind + n} for n in range(1, PAGE + 1)], "next": behind + PAGE, "missed": 0}


async def test_others_have_their_turns_however_quickly_somebody_reads() -> None:
    turns, read = 0, 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    told = tail(page, "/v1/log/lines", {}, await page({}), asyncio.Event())
    while read < 5 * PAGE:
        read += (await anext(told)).count(b"id: ")
    await told.aclose()
    beside.cancel()

    assert turns >= read / 50 - 1
