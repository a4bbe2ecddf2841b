"""``/v1/models`` through the SDK: what may be asked for, by whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.node import Gateway, Upstream
from tests.support.plain import PLAIN

FILE = """
[providers.local]
kind = "openai"
base_url = "{url}"
api_key = "sk-local"
default_model = "llama-3"
models = ["meta-llama/llama-4", "gpt-4o-mini"]

[groups.local-only]
members = ["local"]

[models]
fast = {{ model = "gpt-4o-mini", group = "default-chat-service" }}
home = {{ model = "llama-3", group = "local-only" }}

[keys.all]
key = "key-all"
[keys.narrow]
key = "key-narrow"
groups = ["local-only"]
"""


@pytest.fixture
def node(serve: Callable[..., Gateway], tmp_path: Path, primary: Upstream) -> Gateway:
    file = tmp_path / "runestone.toml"
    file.write_text(FILE.format(url=primary.url))
    return serve("--config", str(file))


def client(node: Gateway, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=node.base_url, api_key=key)


def test_the_sdk_lists_every_model_alias_and_group_once(node: Gateway) -> None:
    with client(node, "key-all") as sdk:
        found = {model.id: model.owned_by for model in sdk.models.list()}

    assert found == {
        "gpt-4o-mini": "openai",
        "claude-sonnet-4-5": "anthropic",
        "llama-3": "openai",
        "meta-llama/llama-4": "openai",
        "fast": "runestone",
        "home": "runestone",
        "default-chat-service": "runestone",
        "cost-optimized-service": "runestone",
        "local-only": "runestone",
    }


def test_a_key_with_groups_sees_what_it_may_ask_for(node: Gateway) -> None:
    with client(node, "key-narrow") as sdk:
        assert {model.id for model in sdk.models.list()} == {
            "llama-3",
            "meta-llama/llama-4",
            "gpt-4o-mini",
            "home",
            "local-only",
        }


def test_one_model_is_told_and_an_unknown_one_is_404(node: Gateway) -> None:
    with client(node, "key-all") as sdk:
        assert sdk.models.retrieve("meta-llama/llama-4").object == "model"
        with pytest.raises(openai.NotFoundError) as missing:
            sdk.models.retrieve("nobody-knows")
    assert missing.value.code == "model_not_found"


def test_it_takes_get_only_asks_nobody_and_is_counted_under_its_route(node: Gateway, primary: Upstream) -> None:
    mine = {"authorization": "Bearer key-all"}
    assert httpx.post(f"{node.base_url}/models", headers=mine, **PLAIN).status_code == 405
    assert httpx.get(f"{node.base_url}/models", headers=mine, **PLAIN).status_code == 200
    assert httpx.get(f"{node.base_url}/models", **PLAIN).status_code == 401

    assert primary.requests() == []
    assert 'route="/v1/models"' in node.health("/metrics").text


def test_it_is_the_live_settings_that_are_told(node: Gateway) -> None:
    node.ctl("provider", "remove", "anthropic-default")

    with client(node, "key-all") as sdk:
        assert "claude-sonnet-4-5" not in {model.id for model in sdk.models.list()}
