"""What a request will cost, before it is made: corrected by what the provider counts, and told as an estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.node import Gateway, eventually
from tests.support.plain import PLAIN

LONG = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 4000}]}],  # in parts: nobody can count it
    "max_tokens": 1000,
}


def test_estimates_follow_what_the_provider_counts(node: Gateway, tmp_path: Path) -> None:
    """The simulated provider counts nine tokens in any request, so the estimate falls as far as it may: to a quarter."""
    path = tmp_path / "request.json"
    path.write_text(json.dumps(LONG))

    def estimate() -> dict[str, Any]:
        return dict(node.ctl("cost", "estimate", "--request", str(path))["costs"])

    def counted() -> int:
        answer = httpx.post(f"{node.base_url}/messages/count_tokens", json=LONG, timeout=60, **PLAIN)
        assert answer.headers["x-runestone-estimated"] == "true"
        return int(answer.json()["input_tokens"])

    # 1,007 x 0.15 + 1,000 x 0.60; at Anthropic, of whose model nothing will be learned, 1,007 x 3 + 1,000 x 15
    assert estimate() == {"anthropic-default": "0.018021", "openai-default": "0.00075105"}
    assert counted() == 1007

    assert node.post({**LONG, "stream": False}).status_code == 200

    # 252 x 0.15 + 1,000 x 0.60
    learned = {"anthropic-default": "0.018021", "openai-default": "0.0006378"}
    eventually(lambda: estimate() == learned, lambda: str(estimate()))
    assert counted() == 252


def test_what_can_be_counted_is_and_says_so(node: Gateway, tmp_path: Path) -> None:
    pytest.importorskip("bpe_openai")
    plain, parts = tmp_path / "plain.json", tmp_path / "parts.json"
    plain.write_text(json.dumps({**LONG, "messages": [{"role": "user", "content": "Hello, world!"}]}))
    parts.write_text(json.dumps(LONG))

    told = node.ctl("cost", "estimate", "--request", str(plain))
    estimated = node.ctl("cost", "estimate", "--request", str(parts))["tokens"]
    printed = node.ctl_raw("cost", "estimate", "--request", str(plain)).stdout.splitlines()

    assert told["tokens"]["openai-default"] == {
        "model": "gpt-4o-mini", "input_tokens": 11, "output_tokens": 1000, "exact": True,
    }  # fmt: skip
    assert told["costs"]["openai-default"] == "0.00060165"  # 11 x 0.15 + 1,000 x 0.60
    assert not told["tokens"]["anthropic-default"]["exact"]
    assert not any(one["exact"] for one in estimated.values())
    assert printed[0].split() == ["PROVIDER", "COST", "USD", "MODEL", "INPUT", "TOKENS", "OUTPUT", "TOKENS", "EXACT"]
    assert printed[-1].split() == ["openai-default", "0.00060165", "gpt-4o-mini", "11", "1000", "yes"]
