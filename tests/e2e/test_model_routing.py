"""The contract's second chapter, rule by rule, each by a real request: who was asked, for which model, or which error it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.node import Gateway, Upstream
from tests.e2e.streams import HELLO

FILE = """
[providers.local]
kind = "openai"
base_url = "{openai}"
api_key = "sk-local"
default_model = "llama-3"
models = ["llama-3", "meta-llama/llama-4"]

[groups.mapped]
members = ["anthropic-default", "openai-default"]
models = {{ "gpt-4o" = {{ anthropic = "claude-opus-4-5" }}, "mapped" = {{ openai-default = "gpt-4o-nano" }} }}

[groups.local-only]
members = ["local"]

[groups.claude-only]
members = ["anthropic-default"]

[groups.old]
members = ["openai-default", "anthropic-default"]
mode = "legacy"

[models]
fast = {{ model = "gpt-4o-mini", group = "mapped" }}
pinned = "anthropic-default/claude-haiku-4-5"
grouped = "claude-only"

[keys.narrow]
key = "key-narrow"
groups = ["claude-only", "local-only"]

[keys.wide]
key = "key-wide"
"""
WIDE = {"authorization": "Bearer key-wide"}
NARROW = {"authorization": "Bearer key-narrow"}
GROUP = "x-runestone-group"


@pytest.fixture
def node(serve: Callable[..., Gateway], tmp_path: Path, primary: Upstream) -> Gateway:
    file = tmp_path / "runestone.toml"
    file.write_text(FILE.format(openai=primary.url))
    file.chmod(0o600)
    return serve("--config", str(file), RUNESTONE_MAX_UPSTREAM_CALLS="8")


def asked(upstreams: tuple[Upstream, ...]) -> list[str]:
    """The models that the upstreams were asked for."""
    return [request["body"]["model"] for upstream in upstreams for request in upstream.requests()]


SERVED: list[tuple[str, str, dict[str, str], str, str]] = [
    ("a family goes to its vendor", "gpt-4o", WIDE, "openai-default", "gpt-4o"),
    ("and the other one to its own", "claude-sonnet-4-5", WIDE, "anthropic-default", "claude-sonnet-4-5"),
    ("o1 and fine-tuned ones are OpenAI's", "ft:o4-mini:acme::x", WIDE, "openai-default", "ft:o4-mini:acme::x"),
    ("a listed model is its provider's", "llama-3", WIDE, "local", "llama-3"),
    ("also one with a slash", "meta-llama/llama-4", WIDE, "local", "meta-llama/llama-4"),
    ("a listed model of the family too, in listed order", "gpt-4o-mini", WIDE, "openai-default", "gpt-4o-mini"),
    ("a header picks the group", "claude-x", {**WIDE, GROUP: "claude-only"}, "anthropic-default", "claude-x"),
    ("a model that names a group picks it", "claude-only", WIDE, "anthropic-default", "claude-sonnet-4-5"),
    ("a header may name the same", "claude-only", {**WIDE, GROUP: "claude-only"}, "anthropic-default", "claude-sonnet-4-5"),
    ("the map makes models equal", "gpt-4o", {**WIDE, GROUP: "mapped"}, "anthropic-default", "claude-opus-4-5"),
    ("a group's name as the model: each has its default", "mapped", WIDE, "anthropic-default", "claude-sonnet-4-5"),
    ("an alias has its group", "fast", WIDE, "openai-default", "gpt-4o-mini"),
    ("an alias may be a pin", "pinned", WIDE, "anthropic-default", "claude-haiku-4-5"),
    ("an alias may be a group", "grouped", WIDE, "anthropic-default", "claude-sonnet-4-5"),
    ("a pin need not be a member", "local/anything", {**WIDE, GROUP: "claude-only"}, "local", "anything"),
    ("a pin sends what is behind its name", "local/a/b", WIDE, "local", "a/b"),
    ("a kind narrows, and passes an unknown name on", "anthropic/new-model", WIDE, "anthropic-default", "new-model"),
    ("a kind of a known family", "openai/gpt-4o", WIDE, "openai-default", "gpt-4o"),
    ("another model stands in where nobody has it", "gpt-4o", {**WIDE, GROUP: "claude-only"}, "anthropic-default", "claude-sonnet-4-5"),
    ("a key's own group is its first", "claude-x", NARROW, "anthropic-default", "claude-x"),
    ("it may use its others", "llama-3", {**NARROW, GROUP: "local-only"}, "local", "llama-3"),
    ("and pin their members", "local/x", NARROW, "local", "x"),
]  # fmt: skip

REFUSED: list[tuple[str, str, dict[str, str], int, str]] = [
    ("an unknown bare model", "nobody-knows", WIDE, 404, "model_not_found"),
    ("an unknown prefix is no kind", "nowhere/x", WIDE, 404, "model_not_found"),
    ("an unknown group", "gpt-4o", {**WIDE, GROUP: "nobody"}, 400, "unknown_group"),
    ("two groups at once", "claude-only", {**WIDE, GROUP: "mapped"}, 400, "group_mismatch"),
    ("a kind that the group has not", "openai/gpt-4o", {**WIDE, GROUP: "claude-only"}, 503, "no_provider_available"),
    ("a group that the key may not use", "gpt-4o", {**NARROW, GROUP: "mapped"}, 403, "group_not_allowed"),
    ("an alias into such a group", "fast", NARROW, 403, "group_not_allowed"),
    ("a pin of a stranger", "openai-default/gpt-4o", NARROW, 403, "provider_not_allowed"),
    ("no key", "gpt-4o", {}, 401, "invalid_api_key"),
]


def test_each_rule_by_a_real_request(node: Gateway, primary: Upstream, secondary: Upstream) -> None:
    wrong: list[Any] = []
    for rule, model, headers, provider, upstream_model in SERVED:
        primary.reset()
        secondary.reset()
        answer = node.post({**HELLO, "model": model, "stream": False}, headers)
        told = answer.headers.get("x-runestone-provider"), answer.headers.get("x-runestone-model")
        if (*told, *asked((primary, secondary))) != (provider, upstream_model, upstream_model):
            wrong.append((rule, answer.status_code, told, asked((primary, secondary))))

    assert wrong == []


def test_each_refusal_asks_nobody(node: Gateway, primary: Upstream, secondary: Upstream) -> None:
    wrong: list[Any] = []
    for rule, model, headers, status, code in REFUSED:
        answer = node.post({**HELLO, "model": model, "stream": False}, headers)
        found = answer.status_code, answer.json()["error"]["code"]
        if found != (status, code):
            wrong.append((rule, found))

    assert wrong == []
    assert asked((primary, secondary)) == []


def test_a_second_tier_serves_only_when_the_first_has_failed(
    node: Gateway, primary: Upstream, secondary: Upstream
) -> None:
    primary.fault("status=503")
    stood_in = node.post({**HELLO, "model": "gpt-4o", "stream": False}, WIDE)
    assert (stood_in.headers["x-runestone-provider"], stood_in.headers["x-runestone-model"]) == (
        "anthropic-default",
        "claude-sonnet-4-5",
    )
    assert asked((secondary,)) == ["claude-sonnet-4-5"]

    primary.fault("status=404")
    for name in ("openai-default", "local"):
        node.ctl("breaker", "reset", name)
    missing = node.post({**HELLO, "model": "gpt-4o", "stream": False}, WIDE)
    assert missing.status_code == 404  # it goes to others of tier 1, never to tier 2
    assert asked((secondary,)) == ["claude-sonnet-4-5"]


def test_a_pin_keeps_its_retries_and_has_no_failover(node: Gateway, primary: Upstream, secondary: Upstream) -> None:
    primary.fault("status=503 times=2")
    assert node.post({**HELLO, "model": "local/x", "stream": False}, WIDE).status_code == 200
    assert asked((primary,)) == ["x"] * 3

    primary.fault("status=503")
    assert node.post({**HELLO, "model": "local/x", "stream": False}, WIDE).status_code >= 500
    assert asked((secondary,)) == []


def test_an_unknown_name_behind_a_kind_has_no_second_tier(
    node: Gateway, primary: Upstream, secondary: Upstream
) -> None:
    secondary.fault("status=503")
    assert node.post({**HELLO, "model": "anthropic/new-model", "stream": False}, WIDE).status_code >= 500
    assert asked((primary,)) == []


def test_a_group_in_legacy_mode_calls_its_first_member_alone(
    node: Gateway, primary: Upstream, secondary: Upstream
) -> None:
    primary.fault("status=503")
    answer = node.post({**HELLO, "model": "gpt-4o", "stream": False}, {**WIDE, GROUP: "old"})

    assert answer.status_code >= 500
    assert asked((primary,)) == ["gpt-4o"] * 3
    assert asked((secondary,)) == []
