"""Rows and calls for tests of the ledger."""

from __future__ import annotations

import itertools
from typing import Any

from runestone.domain.chat import Usage
from runestone.ledger.row import Row
from runestone.telemetry.events import AttemptFinished

_numbers = itertools.count(1)
USAGE = Usage(input_tokens=1000, output_tokens=100, cached_tokens=10, cache_write_tokens=5, reasoning_tokens=7)
DAY = 1_793_491_200_000  # 2026-11-01


def row(**given: Any) -> Row:
    """A row with an id of its own."""
    values: dict[str, Any] = {
        "id": next(_numbers).to_bytes(16, "big"), "ended_ms": DAY, "request_id": "req_1", "number": 1, "key_name": "team",
        "group_name": "g", "provider": "a", "kind": "openai", "model": "gpt-4o-mini", "api": "chat", "stream": False,
        "outcome": "ok", "input_tokens": 10, "output_tokens": 20, "cached_tokens": 1, "cache_write_tokens": 2,
        "reasoning_tokens": 3, "cost_picodollars": 5, "duration_ms": 100, "first_content_ms": 50,
    }  # fmt: skip
    return Row(**{**values, **given})


def event(**given: Any) -> AttemptFinished:
    """The end of a call."""
    values: dict[str, Any] = {
        "provider": "a", "model": "gpt-4o-mini", "stream": False, "outcome": "ok", "duration_seconds": 0.25,
        "first_content_seconds": 0.1, "usage": USAGE, "request_id": "req_1", "kind": "openai", "group": "g", "key": "team",
    }  # fmt: skip
    return AttemptFinished(**{**values, **given})
