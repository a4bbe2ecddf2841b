"""Requests of both wires: what a wire can say it gives back as it was, and nothing that a client sends raises anything but a refusal."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from runestone.domain.catalogue import CATALOGUE
from runestone.domain.conversation import Chat, Refused, Text, ToolChoice, Turn
from runestone.providers.codecs import anthropic, completions, openai, responses
from runestone.providers.codecs.wire import ClientWire, ProviderWire
from tests.providers.wires.chats import EFFORTS, JSON, chats, odd

OPENAI = openai.provider(CATALOGUE["openai"])
CLIENTS = {
    "openai": openai.CLIENT,
    "anthropic": anthropic.CLIENT,
    "responses": responses.CLIENT,
    "completions": completions.CLIENT,
}
SHAPES: dict[str, list[Any]] = {
    "messages": [
        [{"role": "user", "content": "Hello"}],
        [{"role": "user", "content": [{"type": "image_url"}]}],
        [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": 1}}]}],
        [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "image"}]}]}],
        [{"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": 1}]}],
    ],
    "input": ["Hello", [{"type": "function_call"}], [{"role": "user", "content": [{"type": "input_image"}]}]],
    "prompt": ["Hello", ["Hello"], [1, 2]],
    "tools": [
        [{"type": "function", "function": {}}],
        [{"name": "x"}],
        [{"type": "function", "name": "x", "parameters": []}],
    ],
    "tool_choice": ["auto", {"type": "any"}, {"type": "allowed_tools", "tools": [1]}],
    "max_tokens": [5],
    "system": ["Be brief.", [{"type": "text"}]],
    "thinking": [{"type": "enabled"}, {"type": "adaptive"}],
    "output_config": [{"effort": []}, {"format": {"type": "json_schema"}}],
    "response_format": [{"type": "json_schema", "json_schema": {"schema": {}}}],
    "text": [{"format": {"type": "json_schema", "schema": {}}}],
    "reasoning": [{"effort": "high"}, {"effort": []}],
    "functions": [[{"name": "f"}]],
    "stop": ["x"],
}


def crossed(client: ClientWire, provider: ProviderWire, body: dict[str, Any], model: str) -> dict[str, Any]:
    """The provider's body for the client's."""
    written, _ = provider.write_request(client.read_request(body), model)
    return written


def same(chat: Chat, again: Chat) -> None:
    """Equal but for what a wire says in its own way: a schema's name, and neighbours of one role."""
    format_ = None if again.format is None else evolve(again.format, name=None, strict=None)
    assert evolve(again, turns=_joined(again), format=format_) == evolve(chat, turns=_joined(chat))


def _joined(chat: Chat) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for turn in chat.turns:
        if turns and turns[-1].role == turn.role:
            turns[-1] = Turn(turn.role, (*turns[-1].blocks, *turn.blocks))
        else:
            turns.append(turn)
    return tuple(turns)


@given(chats(wire="openai"))
def test_what_openai_s_wire_can_say_is_read_back_as_it_was(chat: Chat) -> None:
    body, dropped = OPENAI.write_request(chat, "gpt-4o-mini")

    assert dropped == []
    same(chat, openai.CLIENT.read_request(orjson.loads(orjson.dumps(body))))


@given(chats(wire="anthropic"))
def test_what_anthropic_s_wire_can_say_is_read_back_as_it_was(chat: Chat) -> None:
    body, dropped = anthropic.PROVIDER.write_request(chat, "claude-sonnet-4-5")

    assert dropped == []
    same(chat, anthropic.CLIENT.read_request(orjson.loads(orjson.dumps(body))))


@given(chats(wire="openai"), EFFORTS)
def test_how_much_to_think_is_read_back_as_it_was(chat: Chat, effort: Any) -> None:
    plain = evolve(chat, temperature=None, top_p=None, stop=(), tools=(), tool_choice=None, reasoning=effort)
    turns = tuple(turn for turn in plain.turns if all(isinstance(block, Text) for block in turn.blocks))
    plain = evolve(plain, turns=(*turns, Turn("user", (Text("?"),))))

    for wire, provider, model in (
        (openai.CLIENT, OPENAI, "gpt-5"),
        (anthropic.CLIENT, anthropic.PROVIDER, "claude-opus-4-7"),
    ):
        body, dropped = provider.write_request(plain, model)
        assert dropped == []
        assert wire.read_request(body).reasoning == effort


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-5", "claude-3-haiku-20240307", "claude-opus-4-7", "claude-sonnet-5-5"]
)
@given(st.data())
def test_no_body_raises_anything_but_a_refusal_with_a_place(name: str, model: str, data: st.DataObject) -> None:
    body = data.draw(odd(SHAPES) | st.dictionaries(st.text(max_size=8), JSON, max_size=4))
    provider = anthropic.PROVIDER if model.startswith("claude") else OPENAI
    try:
        written = crossed(CLIENTS[name], provider, body, model)
    except Refused as refused:
        assert refused.field
        assert refused.message.endswith(".")
    else:
        orjson.dumps(written)


# -- Anthropic's clients before OpenAI's providers ----------------------------------------------------------------------


def asked(model: str = "gpt-4o-mini", **more: Any) -> dict[str, Any]:
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}], **more}
    return crossed(anthropic.CLIENT, OPENAI, body, model)


def dropped(model: str = "gpt-4o-mini", **more: Any) -> tuple[str, ...]:
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}], **more}
    chat = anthropic.CLIENT.read_request(body)
    return (*chat.dropped, *OPENAI.write_request(chat, model)[1])


def refused(**more: Any) -> str:
    with pytest.raises(Refused) as caught:
        asked(**more)
    return caught.value.field


RESULTS = [
    {"role": "user", "content": "Look."},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "c1", "name": "look", "input": {}},
            {"type": "tool_use", "id": "c2", "name": "look", "input": {"a": 1}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "and?"},
            {
                "type": "tool_result",
                "tool_use_id": "c1",
                "content": [
                    {"type": "text", "text": "seen"},
                    {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
                ],
            },
            {"type": "tool_result", "tool_use_id": "c2", "is_error": True, "content": "broken"},
        ],
    },
]


def test_results_follow_their_calls_and_their_pictures_follow_all_of_them() -> None:
    messages = asked(messages=RESULTS)["messages"]

    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert messages[1]["content"] == "I look."
    assert [c["function"]["arguments"] for c in messages[1]["tool_calls"]] == ["{}", '{"a":1}']
    assert [(m["tool_call_id"], m["content"]) for m in messages[2:4]] == [
        ("c1", "seen\n(an image: it follows below)"),
        ("c2", "Error: broken"),
    ]
    assert messages[4]["content"] == [
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        {"type": "text", "text": "and?"},
    ]


def test_what_a_model_thought_is_never_its_visible_words() -> None:
    assert "hm" not in orjson.dumps(asked(messages=RESULTS)).decode()


def test_calls_of_neighbouring_turns_stand_in_one_message() -> None:
    items: list[Any] = [{"role": "user", "content": "Look."}]
    items += [{"type": "function_call", "call_id": c, "name": "look", "arguments": "{}"} for c in "ab"]
    items += [{"type": "function_call_output", "call_id": c, "output": c} for c in "ab"]
    messages = crossed(responses.CLIENT, OPENAI, {"input": items}, "gpt-4o-mini")["messages"]

    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "tool"]
    assert [c["id"] for c in messages[1]["tool_calls"]] == ["a", "b"]


def test_reasoning_models_get_their_own_words() -> None:
    body = asked("gpt-5", system="Be brief.", temperature=0.5, stop_sequences=["x"], max_tokens=77)

    assert body["max_completion_tokens"] == 77
    assert "max_tokens" not in body
    assert body["messages"][0] == {"role": "developer", "content": "Be brief."}
    assert not {"temperature", "stop"} & body.keys()
    assert dropped("gpt-5", temperature=0.5, stop_sequences=["x"]) == ("temperature", "stop_sequences")


@pytest.mark.parametrize(
    ("model", "reasoning"),
    [
        ("gpt-4o", False), ("gpt-4.1-mini", False), ("gpt-5", True), ("gpt-5.5-mini", True), ("gpt-6", True), ("o3-mini", True),
        ("ft:gpt-5:org", True), ("llama-3", False), ("openai/gpt-5", True), ("gpt-5-chat-latest", False), ("o", False),
    ],
)  # fmt: skip
def test_a_model_s_name_tells_whether_it_reasons(model: str, reasoning: bool) -> None:
    assert ("max_completion_tokens" in asked(model)) is reasoning


@pytest.mark.parametrize(("budget", "effort"), [(1024, "low"), (2048, "medium"), (8191, "medium"), (8192, "high")])
def test_a_budget_is_an_effort(budget: int, effort: str) -> None:
    body = asked("gpt-5", thinking={"type": "enabled", "budget_tokens": budget}, max_tokens=9999)

    assert body["reasoning_effort"] == effort
    assert dropped("gpt-4o", thinking={"type": "enabled", "budget_tokens": budget}) == ("thinking",)
    assert dropped("gpt-4o", thinking={"type": "disabled"}) == ()


def test_a_stream_asks_for_its_usage() -> None:
    assert asked(stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in asked()


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "required": [], "additionalProperties": False}, None),
        ({"type": "object", "properties": {}}, None),
        (
            {"type": "object", "properties": {"a": {"oneOf": []}}, "required": ["a"], "additionalProperties": False},
            None,
        ),
        ({"type": "array", "items": {"type": "object"}}, None),
    ],
)
def test_a_schema_is_strict_where_it_can_be(schema: dict[str, Any], strict: bool | None) -> None:
    wanted = asked(output_config={"format": {"type": "json_schema", "schema": schema}})["response_format"][
        "json_schema"
    ]

    assert wanted["schema"] == schema
    assert wanted.get("strict") is strict


def test_long_names_of_tools_are_shortened_alike_everywhere() -> None:
    name = "a" * 100
    tools = [{"name": name, "input_schema": {"type": "object"}}]
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": name, "input": {}}]}
    body = asked(tools=tools, tool_choice={"type": "tool", "name": name}, messages=[*RESULTS[:1], call])
    short = body["tools"][0]["function"]["name"]

    assert len(short) == 64
    assert body["tool_choice"]["function"]["name"] == short
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == short


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"stop_sequences": list("abcde")}, "stop_sequences"),
        ({"tool_choice": {"type": "sometimes"}, "tools": [{"name": "x"}]}, "tool_choice.type"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "messages[0].content[0].type"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "https://x"}}]}
                ]
            },
            "messages[0].content[0].source",
        ),
        ({"thinking": {"type": "sideways"}}, "thinking.type"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"metadata": {"user_id": 1}}, "metadata.user_id"),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_place(more: dict[str, Any], field: str) -> None:
    assert refused(**more) == field


def test_what_need_not_be_said_is_dropped_by_name() -> None:
    fields: dict[str, Any] = {
        "container": "c",
        "context_management": {},
        "speed": "fast",
        "inference_geo": "eu",
        "brand_new": 0,
    }

    assert dropped(**fields, top_k=5) == (*fields, "top_k")
    marked = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]
    assert dropped(system=marked) == ("cache_control",)


# -- responses and completions ----------------------------------------------------------------------------------------------


def responded(**more: Any) -> Chat:
    return responses.CLIENT.read_request({"model": "m", "input": "Hello", **more})


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "x"}]}, "input[0].arguments"),
        ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"tool_choice": {"type": "mcp"}, "tools": [{"type": "function", "name": "f"}]}, "tool_choice"),
    ],
)
def test_what_responses_alone_can_do_is_refused_by_its_place(more: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as caught:
        responded(**more)
    assert caught.value.field == field


def test_items_become_turns_and_thoughts_come_back_signed() -> None:
    body = {"model": "m", "input": "Hello"}
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    answer = anthropic.PROVIDER.read_answer(
        {"id": "msg_1", "model": "m", "content": [thought], "stop_reason": "end_turn"}
    )
    from runestone.domain.chat import ChatRequest

    request = ChatRequest(request_id="r", wire="openai", api="responses", model="m", stream=False, body=body, raw=b"")
    (item,) = responses.CLIENT.write_answer(answer, request, 1)["output"]

    turns = crossed(
        responses.CLIENT, anthropic.PROVIDER, {"input": [{"role": "user", "content": "x"}, item]}, "claude-opus-4-1"
    )
    assert turns["messages"][1] == {"role": "assistant", "content": [thought]}
    alien = {**item, "encrypted_content": "gAAAA"}
    turns = crossed(
        responses.CLIENT, anthropic.PROVIDER, {"input": [{"role": "user", "content": "x"}, alien]}, "claude-opus-4-1"
    )
    assert len(turns["messages"]) == 1


def test_responses_fields_have_their_equals() -> None:
    chat = responded(
        instructions="Be brief.",
        max_output_tokens=7,
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        tool_choice={"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        parallel_tool_calls=False,
        reasoning={"effort": "low"},
        store=True,
        include=["reasoning.encrypted_content"],
        text={"verbosity": "low"},
        brand_new=1,
    )

    assert (chat.turns[0].role, chat.turns[0].blocks) == ("system", (Text("Be brief."),))
    assert (chat.max_tokens, chat.parallel_tools, chat.tools[0].strict) == (7, False, True)
    assert chat.tool_choice == ToolChoice(mode="required", allowed=("f",))
    assert chat.dropped == ("store", "brand_new", "text.verbosity")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"n": 2}, "n"), ({"best_of": 2}, "best_of"), ({"logprobs": 1}, "logprobs"), ({"echo": True}, "echo"), ({"suffix": "x"}, "suffix"),
        ({"prompt": [1, 2]}, "prompt"), ({"prompt": ["a", "b"]}, "prompt"), ({"prompt": None}, "prompt"), ({"stop": 1}, "stop"),
    ],
)  # fmt: skip
def test_what_only_completes_is_refused_by_its_name(more: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as caught:
        completions.CLIENT.read_request({"prompt": "x", **more})
    assert caught.value.field == field


def test_a_prompt_is_the_user_s_turn_and_neutral_values_change_nothing() -> None:
    neutral = {"n": 1, "best_of": 1, "echo": False, "suffix": "", "logprobs": None, "presence_penalty": 0}
    chat = completions.CLIENT.read_request({"prompt": ["x"], "max_tokens": 5, "stop": "y", **neutral, "seed": 1})

    assert chat == Chat(turns=(Turn("user", (Text("x"),)),), max_tokens=5, stop=("y",), dropped=("seed",))


@pytest.mark.parametrize(
    ("model", "goes"),
    [("claude-sonnet-4-5", True), ("claude-opus-4-6", False), ("claude-opus-5", False), ("house-model", True)],
)
def test_an_answer_that_was_begun_goes_on_where_the_model_can(model: str, goes: bool) -> None:
    messages = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One,"}]
    if goes:
        assert (
            crossed(openai.CLIENT, anthropic.PROVIDER, {"messages": messages}, model)["messages"][-1]["role"]
            == "assistant"
        )
        return
    with pytest.raises(Refused) as caught:
        crossed(openai.CLIENT, anthropic.PROVIDER, {"messages": messages}, model)
    assert caught.value.field == "messages"
