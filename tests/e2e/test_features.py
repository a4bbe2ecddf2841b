"""The README's table of features: each cell is tried, from the client's field to what the provider is sent."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from attrs import frozen

from tests.e2e.node import Gateway, Upstream
from tests.support.plain import PLAIN

Body = dict[str, Any]
Check = Callable[[Body], object]
README: Final = Path(__file__).parents[2] / "README.md"
PNG: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
PDF: Final = base64.b64encode(b"%PDF-1.4").decode()
SCHEMA: Final = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
FUNCTION: Final = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}
TOOL: Final = {"name": "look", "description": "Looks.", "input_schema": SCHEMA}
CALLED_O: Final = [
    {"role": "user", "content": "Look."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":"x"}'}},
            {"id": "c2", "type": "function", "function": {"name": "look", "arguments": '{"a":"y"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "one"},
    {"role": "tool", "tool_call_id": "c2", "content": "two"},
]
CALLED_A: Final = [
    {"role": "user", "content": "Look."},
    {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": "x"}},
            {"type": "tool_use", "id": "c2", "name": "look", "input": {"a": "y"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
            {"type": "tool_result", "tool_use_id": "c2", "content": "two"},
        ],
    },
]


def said_o(part: Body) -> Body:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, part]}]}


@frozen(kw_only=True)
class Feature:
    """How a client of each wire asks for it (``None``: its wire has no word for it), and how each provider is asked.

    ``o_model`` and ``a_model`` where not every model has it.
    """

    openai: Body | None
    anthropic: Body | None
    at_openai: Check = lambda _: True
    at_anthropic: Check = lambda _: True
    o_model: str = "gpt-4o-mini"
    a_model: str = "claude-sonnet-4-5"


def parts(body: Body, turn: int = -1) -> list[Body]:
    return list(body["messages"][turn]["content"])


def first(body: Body, kind: str) -> Body:
    return next(part for part in parts(body) if part["type"] == kind)


FEATURES: Final[dict[str, Feature]] = {
    "instructions (system, developer)": Feature(
        openai={"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "?"}]},
        anthropic={"system": "Be brief."},
        at_openai=lambda b: b["messages"][0]["content"] == "Be brief.",
        at_anthropic=lambda b: b["system"] in ("Be brief.", [{"type": "text", "text": "Be brief."}]),
    ),
    "streams": Feature(
        openai={"stream": True},
        anthropic={"stream": True},
        at_openai=lambda b: b["stream"],
        at_anthropic=lambda b: b["stream"],
    ),
    "tools": Feature(
        openai={"tools": [FUNCTION]},
        anthropic={"tools": [TOOL]},
        at_openai=lambda b: b["tools"][0]["function"]["parameters"] == SCHEMA,
        at_anthropic=lambda b: b["tools"][0]["input_schema"] == SCHEMA,
    ),
    "tool choice": Feature(
        openai={"tools": [FUNCTION], "tool_choice": "required"},
        anthropic={"tools": [TOOL], "tool_choice": {"type": "any"}},
        at_openai=lambda b: b["tool_choice"] == "required",
        at_anthropic=lambda b: b["tool_choice"] == {"type": "any"},
    ),
    "one call at a time": Feature(
        openai={"tools": [FUNCTION], "parallel_tool_calls": False},
        anthropic={"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        at_openai=lambda b: b["parallel_tool_calls"] is False,
        at_anthropic=lambda b: b["tool_choice"]["disable_parallel_tool_use"] is True,
    ),
    "parallel calls and their results": Feature(
        openai={"tools": [FUNCTION], "messages": CALLED_O},
        anthropic={"tools": [TOOL], "messages": CALLED_A},
        at_openai=lambda b: (
            [(m["tool_call_id"], m["content"]) for m in b["messages"][2:4]] == [("c1", "one"), ("c2", "two")]
        ),
        at_anthropic=lambda b: [p["tool_use_id"] for p in parts(b)] == ["c1", "c2"],
    ),
    "functions (the older tools)": Feature(
        openai={"functions": [FUNCTION["function"]]},
        anthropic=None,
        at_openai=lambda b: b["functions"],
        at_anthropic=lambda b: b["tools"][0]["name"] == "look",
    ),
    "custom tools": Feature(openai={"tools": [{"type": "custom", "custom": {"name": "x"}}]}, anthropic=None),
    "tools that the provider runs": Feature(
        openai=None, anthropic={"tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    ),
    "MCP servers": Feature(
        openai=None, anthropic={"mcp_servers": [{"type": "url", "url": "https://x.test", "name": "x"}]}
    ),
    "images in the request": Feature(
        openai=said_o({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}),
        anthropic=said_o({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
        at_openai=lambda b: first(b, "image_url")["image_url"]["url"].endswith(PNG),
        at_anthropic=lambda b: first(b, "image")["source"]["data"] == PNG,
    ),
    "images by URL": Feature(
        openai=said_o({"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}),
        anthropic=said_o({"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}),
        at_openai=lambda b: first(b, "image_url")["image_url"]["url"] == "https://x.test/a.png",
        at_anthropic=lambda b: first(b, "image")["source"]["url"] == "https://x.test/a.png",
    ),
    "PDF files": Feature(
        openai=said_o(
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}
        ),
        anthropic=said_o(
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
        ),
        at_openai=lambda b: first(b, "file")["file"]["file_data"].endswith(PDF),
        at_anthropic=lambda b: first(b, "document")["source"]["data"] == PDF,
    ),
    "uploaded files by id": Feature(
        openai=said_o({"type": "file", "file": {"file_id": "file-1"}}),
        anthropic=said_o({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
    ),
    "audio in": Feature(
        openai=said_o({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}), anthropic=None
    ),
    "audio out": Feature(
        openai={"modalities": ["text", "audio"], "audio": {"voice": "x", "format": "wav"}}, anthropic=None
    ),
    "JSON by a schema": Feature(
        openai={"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        anthropic={"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        at_openai=lambda b: b["response_format"]["json_schema"]["schema"] == SCHEMA,
        at_anthropic=lambda b: b["output_config"]["format"]["schema"] == SCHEMA,
    ),
    "JSON of any form": Feature(openai={"response_format": {"type": "json_object"}}, anthropic=None),
    "reasoning effort": Feature(
        openai={"reasoning_effort": "high"},
        anthropic={"output_config": {"effort": "high"}},
        at_openai=lambda b: b["reasoning_effort"] == "high",
        at_anthropic=lambda b: b["output_config"]["effort"] == "high",
        o_model="gpt-5",
        a_model="claude-opus-4-7",
    ),
    "thinking with a budget": Feature(
        openai=None,
        anthropic={"thinking": {"type": "enabled", "budget_tokens": 9000}, "max_tokens": 10000},
        at_openai=lambda b: b["reasoning_effort"] == "high",
        at_anthropic=lambda b: b["thinking"]["budget_tokens"] == 9000,
        o_model="gpt-5",
    ),
    "most tokens": Feature(
        openai={"max_completion_tokens": 77},
        anthropic={"max_tokens": 77},
        at_openai=lambda b: b.get("max_completion_tokens", b.get("max_tokens")) == 77,
        at_anthropic=lambda b: b["max_tokens"] == 77,
    ),
    "temperature, top_p": Feature(
        openai={"temperature": 0.5, "top_p": 0.9},
        anthropic={"temperature": 0.5, "top_p": 0.9},
        at_openai=lambda b: (b["temperature"], b["top_p"]) == (0.5, 0.9),
        at_anthropic=lambda b: (b["temperature"], b["top_p"]) == (0.5, 0.9),
    ),
    "top_k": Feature(openai=None, anthropic={"top_k": 5}, at_anthropic=lambda b: b["top_k"] == 5),
    "stop sequences": Feature(
        openai={"stop": ["END"]},
        anthropic={"stop_sequences": ["END"]},
        at_openai=lambda b: b["stop"] == ["END"],
        at_anthropic=lambda b: b["stop_sequences"] == ["END"],
    ),
    "seed": Feature(openai={"seed": 7}, anthropic=None, at_openai=lambda b: b["seed"] == 7),
    "logprobs": Feature(openai={"logprobs": True}, anthropic=None, at_openai=lambda b: b["logprobs"]),
    "several choices (n)": Feature(openai={"n": 2}, anthropic=None, at_openai=lambda b: b["n"] == 2),
    "penalties, logit_bias": Feature(
        openai={"presence_penalty": 1}, anthropic=None, at_openai=lambda b: b["presence_penalty"]
    ),
    "predicted output": Feature(
        openai={"prediction": {"type": "content", "content": "x"}}, anthropic=None, at_openai=lambda b: b["prediction"]
    ),
    "who the user is": Feature(
        openai={"safety_identifier": "u1"},
        anthropic={"metadata": {"user_id": "u1"}},
        at_openai=lambda b: "u1" in (b.get("safety_identifier"), b.get("user")),
        at_anthropic=lambda b: b["metadata"] == {"user_id": "u1"},
    ),
    "service tier": Feature(
        openai={"service_tier": "default"},
        anthropic={"service_tier": "standard_only"},
        at_openai=lambda b: b["service_tier"] == "default",
        at_anthropic=lambda b: b["service_tier"] == "standard_only",
    ),
    "marks for prompt caches": Feature(
        openai=said_o({"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}),
        anthropic=said_o({"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}),
        at_anthropic=lambda b: parts(b)[-1]["cache_control"] == {"type": "ephemeral"},
    ),
    "fields that are unknown here": Feature(
        openai={"brand_new": 1},
        anthropic={"brand_new": 1},
        at_openai=lambda b: b["brand_new"] == 1,
        at_anthropic=lambda b: b["brand_new"] == 1,
    ),
}
COLUMNS: Final = ("OpenAI → OpenAI", "OpenAI → Anthropic", "Anthropic → OpenAI", "Anthropic → Anthropic")


def table() -> Iterator[tuple[str, str, str]]:
    """Every cell of the README: feature, column, what it says."""
    header = "| | " + " | ".join(COLUMNS) + " |"
    lines = iter(README.read_text(encoding="utf-8").splitlines())
    assert header in lines, "the README has no table of features"
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        feature, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        yield from ((feature, column, cell) for column, cell in zip(COLUMNS, cells, strict=True))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, _openai: Upstream, _anthropic: Upstream) -> Iterator[Gateway]:
    """One gateway for all cells: nothing that is asked here changes it."""
    from tests.e2e.node import gateway

    environment = {
        "OPENAI_API_KEY": "sk-upstream-openai",
        "OPENAI_BASE_URL": _openai.url,
        "ANTHROPIC_API_KEY": "sk-upstream-anthropic",
        "ANTHROPIC_BASE_URL": _anthropic.url,
    }
    with gateway(tmp_path_factory.mktemp("features"), environment) as running:
        yield running


def ask(node: Gateway, feature: Feature, column: str) -> httpx.Response:
    client, _, provider = column.partition(" → ")
    name, model = (
        ("openai-default", feature.o_model) if provider == "OpenAI" else ("anthropic-default", feature.a_model)
    )
    body: Body = {"model": f"{name}/{model}", "messages": [{"role": "user", "content": "?"}]}
    path, fields = ("/chat/completions", feature.openai) if client == "OpenAI" else ("/messages", feature.anthropic)
    if client == "Anthropic":
        body["max_tokens"] = 100
    return httpx.post(node.base_url + path, json=body | (fields or {}), timeout=60, **PLAIN)


def test_every_feature_has_a_row_and_every_row_is_tried() -> None:
    assert [feature for feature, column, _ in table() if column == COLUMNS[0]] == list(FEATURES)


@pytest.mark.parametrize(("feature", "column", "cell"), list(table()))
def test_each_cell_is_true(
    node: Gateway, primary: Upstream, secondary: Upstream, feature: str, column: str, cell: str
) -> None:
    wanted = FEATURES[feature]
    client, _, provider = column.partition(" → ")
    if (wanted.openai if client == "OpenAI" else wanted.anthropic) is None:
        assert cell == "–"
        return
    answer = ask(node, wanted, column)
    upstream, check = (primary, wanted.at_openai) if provider == "OpenAI" else (secondary, wanted.at_anthropic)
    sent = upstream.requests()
    if cell == "refused":
        assert answer.status_code == 400, answer.text
        assert sent == []
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert re.search(r"\w+(\[\d+\])?(\.\w+)*", error["message"])
        return
    assert answer.status_code == 200, answer.text
    (request,) = sent
    if cell == "dropped":
        assert answer.headers["x-runestone-dropped"]
        return
    assert cell == "works"
    assert "x-runestone-dropped" not in answer.headers
    assert check(request["body"]), request["body"]
