"""Every kind of provider behind the gateway, answering as it was recorded, a byte at a time, read by the real SDKs of both vendors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import anthropic
import openai
import pytest

from runestone.domain.catalogue import CATALOGUE, KINDS
from tests.e2e.node import Gateway, gateway
from tests.support.replay import replaying

ASKED: Final[Any] = [{"role": "user", "content": "Hello"}]
every = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a provider of each kind."""
    folder = tmp_path_factory.mktemp("recorded")
    with replaying() as url:
        tables = [
            f'[providers.my-{kind}]\nkind = "{kind}"\nbase_url = "{url}/{kind}"\napi_key = "k"\ndefault_model = "m"\n'
            for kind in KINDS
        ]
        file = folder / "runestone.toml"
        file.write_text("\n".join(tables))
        file.chmod(0o600)
        with gateway(folder, {}, "--config", str(file)) as running:
            yield running


@every
def test_openai_s_sdk_reads_it_whole_and_streamed(node: Gateway, kind: str) -> None:
    with openai.OpenAI(base_url=node.base_url, api_key="unused", max_retries=0) as client:
        whole = client.chat.completions.create(model=f"my-{kind}/m", messages=ASKED)
        chunks = list(client.chat.completions.create(model=f"my-{kind}/m", messages=ASKED, stream=True))

    message = whole.choices[0].message
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    if kind == "gemini":
        assert [c.function.arguments for c in message.tool_calls or () if c.type == "function"] == ['{"a":1}']
        assert [c.function.arguments for d in deltas for c in d.tool_calls or () if c.function] == ['{"a":1}']
    elif kind == "mistral":  # a list of parts, which is this provider's own way: it passes as it is
        assert "Hello" in str(message.content)
        assert [d.content for d in deltas if isinstance(d.content, str) and d.content] == ["lo"]
    else:
        assert message.content == "Hello"
        assert "".join(d.content or "" for d in deltas) == "Hello"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 17


@every
def test_anthropic_s_sdk_reads_it_whole_and_streamed(node: Gateway, kind: str) -> None:
    with anthropic.Anthropic(base_url=node.public_url, api_key="unused", max_retries=0) as client:
        whole = client.messages.create(model=f"my-{kind}/m", max_tokens=100, messages=ASKED)
        with client.messages.stream(model=f"my-{kind}/m", max_tokens=100, messages=ASKED) as stream:
            streamed = stream.get_final_message()

    for message in (whole, streamed):
        last = message.content[-1]
        if kind == "gemini":
            assert last.type == "tool_use"
            assert (last.input, message.stop_reason) == ({"a": 1}, "tool_use")
        else:
            assert last.type == "text"
            assert (last.text, message.stop_reason) == ("Hello", "end_turn")
    assert whole.usage.output_tokens == 5
    assert streamed.usage.output_tokens == (0 if kind == "compatible" else 5)


@pytest.mark.parametrize("kind", [kind for kind, row in CATALOGUE.items() if "responses" not in row.passes])
def test_responses_are_translated_for_every_kind_that_has_none(node: Gateway, kind: str) -> None:
    with openai.OpenAI(base_url=node.base_url, api_key="unused", max_retries=0) as client:
        whole = client.responses.create(model=f"my-{kind}/m", input="Hello")
        with client.responses.stream(model=f"my-{kind}/m", input="Hello") as stream:
            streamed = stream.get_final_response()

    for answer in (whole, streamed):
        if kind == "gemini":
            assert [item.type for item in answer.output] == ["function_call"]
        else:
            assert answer.output_text == "Hello"
