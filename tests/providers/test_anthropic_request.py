"""Requests of OpenAI's wire in Anthropic's words: row by row of the table, what is dropped is named, what cannot be said is refused."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from runestone.domain.chat import ChatRequest
from runestone.domain.secret import Secret
from runestone.providers.codecs import Unsupported, UpstreamRequest, codec_for
from runestone.providers.codecs.anthropic.models import capabilities

CODEC = codec_for("anthropic")
MODEL = "claude-sonnet-4-5"
HELLO = [{"role": "user", "content": "Hello"}]
PNG = "data:image/png;base64,iVBORw0KGgo="
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
USED = {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": 1}}


def encoded(text: str, media: str = "text/plain") -> str:
    return f"data:{media};base64,{base64.b64encode(text.encode()).decode()}"


def chat(body: dict[str, Any]) -> ChatRequest:
    body = {"model": "m", "messages": HELLO, **body}
    stream = bool(body.get("stream"))
    return ChatRequest(request_id="r", wire="openai", model="m", stream=stream, body=body, raw=b"")


def ask(model: str = MODEL, **body: Any) -> UpstreamRequest | Unsupported:
    return CODEC.request(chat(body), model=model, api_key=Secret("sk-own"), extra_headers={"X-Own": "1"})


def sent(model: str = MODEL, **body: Any) -> dict[str, Any]:
    request = ask(model, **body)
    assert isinstance(request, UpstreamRequest), request
    return dict(orjson.loads(request.body))


def dropped(model: str = MODEL, **body: Any) -> tuple[str, ...]:
    request = ask(model, **body)
    assert isinstance(request, UpstreamRequest), request
    return request.dropped


def refused(model: str = MODEL, **body: Any) -> Unsupported:
    request = ask(model, **body)
    assert isinstance(request, Unsupported), request
    return request


def turns(*messages: dict[str, Any], model: str = MODEL) -> list[dict[str, Any]]:
    return list(sent(model, messages=list(messages))["messages"])


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


# -- the request as a whole --------------------------------------------------------------------------------------------


def test_the_simplest_question() -> None:
    assert sent() == {
        "model": MODEL,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [text("Hello")]}],
    }


def test_the_head_carries_our_key_and_a_version_and_nothing_of_the_clients() -> None:
    request = ask()
    assert isinstance(request, UpstreamRequest)
    assert request.path == "/messages"
    assert dict(request.headers) == {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "anthropic-version": "2023-06-01",
        "x-api-key": "sk-own",
        "x-own": "1",
    }
    assert "sk-own" not in repr(request)
    assert "Hello" not in repr(request)


def test_a_streaming_request_asks_for_events_and_keeps_stream_options_to_itself() -> None:
    request = ask(stream=True, stream_options={"include_usage": True})
    assert isinstance(request, UpstreamRequest)
    assert dict(request.headers)["accept"] == "text/event-stream"
    assert orjson.loads(request.body)["stream"] is True
    assert "stream_options" not in orjson.loads(request.body)
    assert request.dropped == ()


@pytest.mark.parametrize(
    "neutral",
    [
        {"n": 1, "logprobs": False, "top_logprobs": 0, "modalities": ["text"], "audio": None, "store": False},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "metadata": {}, "seed": None},
        {"temperature": None, "top_p": None, "stop": None, "tools": None, "tool_choice": None, "user": None},
        {"tools": [], "functions": [], "function_call": None, "response_format": None, "service_tier": None},
        {"response_format": {"type": "text"}, "reasoning_effort": "none", "stream": False, "stop": [], "user": ""},
        {"tool_choice": "auto", "parallel_tool_calls": False},
    ],
)
def test_what_says_no_more_than_its_absence_changes_nothing_and_is_not_named(neutral: dict[str, Any]) -> None:
    assert sent(**neutral) == sent()
    assert dropped(**neutral) == ()


def test_what_has_no_word_there_is_dropped_by_name() -> None:
    body: dict[str, Any] = {
        "seed": 7,
        "store": True,
        "metadata": {"a": "b"},
        "prediction": {},
        "verbosity": "low",
        "prompt_cache_key": "k",
        "prompt_cache_options": {},
        "moderation": {"model": "m", "policy": {"input": {"mode": "score"}}},
        "presence_penalty": 0.5,
        "frequency_penalty": -1,
        "logit_bias": {"1": 2},
        "web_search_options": {},
        "some_field_of_tomorrow": 0,
    }
    assert dropped(**body) == tuple(body)
    assert sent(**body) == sent()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"n": "1"}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "v"}}, "modalities"),
        ({"functions": {"name": "f"}}, "functions"),
        ({"functions": [1]}, "functions[0]"),
        ({"functions": [{"name": "f"}], "function_call": "always"}, "function_call"),
        ({"moderation": {"model": "m", "policy": {"output": {"mode": "block"}}}}, "moderation"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": []}, "top_p"),
        ({"stop": 1}, "stop"),
        ({"stop": ["a", 1]}, "stop"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"reasoning_effort": ["low"]}, "reasoning_effort"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, "response_format"),
        ({"response_format": 1}, "response_format"),
        ({"tools": {}, "tool_choice": 1}, None),
        ({"tools": {"a": 1}}, "tools"),
        ({"tools": [1]}, "tools[0]"),
        ({"tools": [TOOL, {"type": "custom", "custom": {"name": "c"}}]}, "tools[1]"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a" * 129}}]}, "tools[0].function.name"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "c"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        (
            {
                "tools": [TOOL],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [{"function": {"name": "x"}}]}},
            },
            "tool_choice",
        ),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(body: dict[str, Any], field: str | None) -> None:
    if field is None:
        assert sent(**body) == sent()
        return
    found = refused(**body)
    assert found.field == field
    assert found.message.endswith(".")
    assert field.partition(".")[0].partition("[")[0] in found.message or "audio" in found.message


def test_the_older_functions_are_tools_whose_calls_get_ids() -> None:
    call = {"name": "f", "arguments": '{"a":1}'}
    body = sent(
        functions=[{"name": "f", "parameters": SCHEMA}],
        function_call={"name": "f"},
        messages=[
            *HELLO,
            {"role": "assistant", "content": None, "function_call": call},
            {"role": "function", "name": "f", "content": "one"},
            {"role": "assistant", "function_call": call},
            {"role": "function", "name": "f", "content": "two"},
        ],
    )

    assert [tool["name"] for tool in body["tools"]] == ["f"]
    assert body["tool_choice"] == {"type": "tool", "name": "f"}
    blocks = [block for turn in body["messages"][1:] for block in turn["content"]]
    assert [(b["type"], b.get("id") or b["tool_use_id"]) for b in blocks] == [
        ("tool_use", "call_1"), ("tool_result", "call_1"), ("tool_use", "call_3"), ("tool_result", "call_3")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (1, "messages[1]"),
        ({"role": "robot", "content": "x"}, "messages[1].role"),
        ({"content": "x"}, "messages[1].role"),
        ({"role": "user", "content": 1}, "messages[1].content"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0].type"),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
            "messages[1].content[0].input_audio.data",
        ),
        ({"role": "user", "content": [{"type": ["text"]}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": PNG}]}, "messages[1].content[0].type"),
        ({"role": "tool", "content": "x"}, "messages[1].tool_call_id"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[1].audio"),
        ({"role": "assistant", "function_call": {"name": 1}}, "messages[1].function_call.name"),
        ({"role": "assistant", "tool_calls": {"a": 1}}, "messages[1].tool_calls"),
        ({"role": "assistant", "tool_calls": [1]}, "messages[1].tool_calls[0]"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]},
            "messages[1].tool_calls[0]",
        ),
    ],
)
def test_a_message_that_cannot_be_said_is_refused_by_its_place(message: object, field: str) -> None:
    found = refused(messages=[*HELLO, message])
    assert found.field == field
    assert field.partition(".")[0] in found.message


@pytest.mark.parametrize("messages", [None, [], {}, "Hello", [{"role": "user", "content": ""}], [{"role": "system"}]])
def test_a_conversation_without_words_is_refused(messages: object) -> None:
    assert refused(messages=messages).field == "messages"


@pytest.mark.parametrize("levels", [260, 900])
def test_a_request_that_is_nested_too_deeply_is_refused_and_never_crashes(levels: int) -> None:
    deep: dict[str, Any] = {}
    for _ in range(levels):
        deep = {"items": deep}
    for schema in (deep, {"minimum": deep}, {"default": deep}):
        wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
        assert "deeply" in refused(response_format=wanted).message
    assert "deeply" in refused(tools=[{"type": "function", "function": {"name": "f", "parameters": deep}}]).message


# -- messages ----------------------------------------------------------------------------------------------------------


def test_the_first_instructions_become_system_blocks_in_order() -> None:
    body = sent(
        messages=[
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [text("b", cache_control={"type": "ephemeral"}), text("")]},
            {"role": "system", "content": ""},
            *HELLO,
        ]
    )
    assert body["system"] == [text("a"), text("b", cache_control={"type": "ephemeral"})]
    assert body["messages"] == [{"role": "user", "content": [text("Hello")]}]


LATER = [*HELLO, {"role": "developer", "content": "Now in French."}, {"role": "user", "content": "Again"}]


@pytest.mark.parametrize("model", [MODEL, "claude-opus-4-7", "other-server-1"])
def test_later_instructions_join_the_first_ones_where_the_model_takes_none_between(model: str) -> None:
    body = sent(model, messages=LATER)
    assert body["system"] == [text("Now in French.")]
    assert body["messages"] == [{"role": "user", "content": [text("Hello"), text("Again")]}]


@pytest.mark.parametrize("model", ["claude-opus-4-8", "claude-sonnet-5", "claude-next"])
def test_later_instructions_stay_in_place_where_the_model_takes_them(model: str) -> None:
    body = sent(model, messages=LATER)
    assert "system" not in body
    assert body["messages"] == [
        {"role": "user", "content": [text("Hello")]},
        {"role": "system", "content": [text("Now in French.")]},
        {"role": "user", "content": [text("Again")]},
    ]


def test_instructions_between_a_call_and_its_result_do_not_part_them() -> None:
    body = sent(
        "claude-opus-4-8",
        messages=[
            *HELLO,
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "system", "content": "s"},
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
        ],
    )
    assert body["system"] == [text("s")]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]


def test_instructions_between_two_results_of_one_turn_do_not_part_them() -> None:
    body = sent(
        "claude-opus-4-8",
        messages=[
            *HELLO,
            {"role": "assistant", "tool_calls": [CALL, {**CALL, "id": "c2"}]},
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
            {"role": "system", "content": "early"},
            {"role": "tool", "tool_call_id": "c2", "content": "r"},
            {"role": "system", "content": "late"},
        ],
    )
    assert body["system"] == [text("early")]
    assert [[block["type"] for block in turn["content"]] for turn in body["messages"]] == [
        ["text"],
        ["tool_use", "tool_use"],
        ["tool_result", "tool_result"],
        ["text"],
    ]
    assert body["messages"][-1] == {"role": "system", "content": [text("late")]}


def test_instructions_alone_are_the_question() -> None:
    body = sent(messages=[{"role": "system", "content": "Say hi."}])
    assert body["messages"] == [{"role": "user", "content": [text("Say hi.")]}]
    assert "system" not in body


def test_neighbours_of_one_role_are_one_turn_and_empty_ones_are_left_out() -> None:
    assert turns(
        {"role": "user", "content": "a", "name": "anna"},
        {"role": "user", "content": [text("b")]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": None},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": "d"},
        {"role": "user", "content": "e"},
    ) == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("d")]},
        {"role": "user", "content": [text("e")]},
    ]


@pytest.mark.parametrize(
    ("url", "source"),
    [
        (PNG, {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}),
        ("data:IMAGE/JPEG;charset=x;base64,AA==", {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}),
        ("https://example.com/a.png", {"type": "url", "url": "https://example.com/a.png"}),
        ("http://example.com/a.png", {"type": "url", "url": "http://example.com/a.png"}),
    ],
)
def test_images_by_url_and_by_value(url: str, source: dict[str, str]) -> None:
    part = {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
    assert turns({"role": "user", "content": [part]}) == [
        {"role": "user", "content": [{"type": "image", "source": source}]}
    ]


@pytest.mark.parametrize(
    "url",
    ["data:image/svg+xml;base64,AA==", "data:image/png,AA", "data:image/png;base64", "ftp://x/a.png", "a.png", 7, None],
)
def test_an_image_of_another_kind_is_refused(url: object) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    assert refused(messages=[{"role": "user", "content": [part]}]).field == "messages[0].content[0].image_url"


def test_files_become_documents() -> None:
    pdf = {"file_data": encoded("%PDF", "application/pdf"), "filename": "a.pdf"}
    plain = {"file_data": encoded("caf\u00e9")}
    content = [{"type": "file", "file": pdf}, {"type": "file", "file": plain}]
    assert turns({"role": "user", "content": content})[0]["content"] == [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "caf\u00e9"}},
    ]


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ({"file_id": "f"}, "file"),
        (None, "file"),
        ({"file_data": encoded("x", "text/html")}, "file.file_data"),
        ({"file_data": "x"}, "file.file_data"),
        ({"file_data": "data:text/plain;base64,!!"}, "file.file_data"),
        ({"file_data": "data:text/plain;base64,/w=="}, "file.file_data"),
    ],
)
def test_a_file_that_cannot_be_given_is_refused(file: object, field: str) -> None:
    found = refused(messages=[{"role": "user", "content": [{"type": "file", "file": file}]}])
    assert found.field == f"messages[0].content[0].{field}"


def test_a_tool_loop_keeps_its_order_results_first_and_images_in_results() -> None:
    image = {"type": "image_url", "image_url": {"url": PNG}}
    second = {**CALL, "id": "c2", "function": {"name": "look", "arguments": ""}}
    assert turns(
        *HELLO,
        {"role": "assistant", "content": "Looking.", "tool_calls": [CALL, second]},
        {"role": "tool", "tool_call_id": "c1", "content": [text("seen"), image]},
        {"role": "tool", "tool_call_id": "c2", "content": ""},
        {"role": "user", "content": "And?"},
    )[1:] == [
        {
            "role": "assistant",
            "content": [
                text("Looking."),
                USED,
                {"type": "tool_use", "id": "c2", "name": "look", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c1",
                    "content": [
                        text("seen"),
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                        },
                    ],
                },
                {"type": "tool_result", "tool_use_id": "c2"},
                text("And?"),
            ],
        },
    ]


def test_results_come_first_even_after_words_of_the_same_turn() -> None:
    made = turns(
        *HELLO,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "user", "content": "Wait."},
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
    )
    assert [block["type"] for block in made[-1]["content"]] == ["tool_result", "text"]


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\t\u00a0"])
def test_text_of_white_space_alone_is_left_out_wherever_it_stands(blank: str) -> None:
    parts = [text(blank), {"type": "refusal", "refusal": blank}]
    result = {"type": "tool_result", "tool_use_id": "c1"}
    body = sent(
        messages=[
            {"role": "system", "content": blank},
            *HELLO,
            {"role": "assistant", "content": blank, "refusal": blank, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": blank},
            {"role": "user", "content": [text(blank), text(" a ")]},
            {"role": "assistant", "content": parts},
        ]
    )
    assert "system" not in body
    assert [turn["content"] for turn in body["messages"]] == [[text("Hello")], [USED], [result, text(" a ")]]
    assert refused(messages=[{"role": "user", "content": blank}]).field == "messages"


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ({**CALL, "id": None}, "id"),
        ({**CALL, "id": ["c1"]}, "id"),
        ({**CALL, "function": {"arguments": "{}"}}, "function.name"),
        ({**CALL, "function": {"name": 7, "arguments": "{}"}}, "function.name"),
    ],
)
def test_a_call_without_an_id_or_a_name_is_refused(call: dict[str, Any], field: str) -> None:
    found = refused(messages=[*HELLO, {"role": "assistant", "tool_calls": [call]}])
    assert found.field == f"messages[1].tool_calls[0].{field}"


@pytest.mark.parametrize("arguments", ["{", "[]", "1", "null", '"x"', 7, {"a": 1}])
def test_arguments_that_are_no_json_object_are_refused(arguments: object) -> None:
    call = {**CALL, "function": {"name": "look", "arguments": arguments}}
    found = refused(messages=[*HELLO, {"role": "assistant", "tool_calls": [call]}])
    assert found.field == "messages[1].tool_calls[0].function.arguments"


def test_a_refusal_is_told_as_the_assistants_words() -> None:
    parts = [{"type": "refusal", "refusal": "No."}]
    assert turns(*HELLO, {"role": "assistant", "content": None, "refusal": "No."})[1]["content"] == [text("No.")]
    assert turns(*HELLO, {"role": "assistant", "content": parts})[1]["content"] == [text("No.")]


def test_signed_thinking_comes_first_and_unknown_blocks_are_left_out() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    hidden = {"type": "redacted_thinking", "data": "d"}
    message = {
        "role": "assistant",
        "content": "Ah.",
        "tool_calls": [CALL],
        "reasoning_content": "Hm.",
        "thinking_blocks": [thought, hidden, {"type": "x"}, 1],
    }
    assert turns(*HELLO, message)[1]["content"] == [thought, hidden, text("Ah."), USED]


def test_a_history_with_calls_passes_without_tools() -> None:
    body = sent(messages=[*HELLO, {"role": "assistant", "tool_calls": [CALL]}])
    assert "tools" not in body


@pytest.mark.parametrize(
    ("mark", "made"),
    [
        ({"cache_control": {"type": "ephemeral"}}, {"type": "ephemeral"}),
        ({"cache_control": {"type": "ephemeral", "ttl": "5m"}}, {"type": "ephemeral", "ttl": "5m"}),
        ({"cache_control": {"type": "ephemeral", "ttl": "12h"}}, {"type": "ephemeral", "ttl": "1h"}),
        ({"prompt_cache_breakpoint": {"mode": "explicit"}}, {"type": "ephemeral"}),
        ({"prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}, {"type": "ephemeral", "ttl": "1h"}),
        ({"cache_control": None}, None),
    ],
)
def test_marks_for_the_cache_are_kept_on_parts_and_on_tools(mark: dict[str, Any], made: object) -> None:
    body = sent(messages=[{"role": "user", "content": [text("a", **mark)]}], tools=[{**TOOL, **mark}])
    assert body["messages"][0]["content"][0].get("cache_control") == made
    assert body["tools"][0].get("cache_control") == made


# -- tools -------------------------------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/x"}, "b": {"oneOf": [{"type": "string", "pattern": "^x"}]}},
    "required": ["a"],
    "additionalProperties": {"type": "number"},
    "$defs": {"x": {"type": "integer", "minimum": 1}},
}


def test_a_tool_keeps_its_whole_schema() -> None:
    function = {"name": "look-at_1", "description": "Looks.", "parameters": SCHEMA, "strict": True}
    assert sent(tools=[{"type": "function", "function": function}])["tools"] == [
        {"name": "look-at_1", "description": "Looks.", "input_schema": SCHEMA, "strict": True}
    ]


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    assert sent(tools=[{"type": "function", "function": {"name": "f"}}])["tools"] == [
        {"name": "f", "input_schema": {"type": "object", "properties": {}}}
    ]


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        (None, None),
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"}),
    ],
)
@pytest.mark.parametrize("parallel", [None, True, False])
def test_tool_choice_and_parallel_calls(choice: object, made: dict[str, Any] | None, parallel: bool | None) -> None:
    body = sent(tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel)
    if parallel is False and choice != "none":
        made = {**(made or {"type": "auto"}), "disable_parallel_tool_use": True}
    assert body.get("tool_choice") == made


@pytest.mark.parametrize(
    ("mode", "made"), [("auto", {"type": "auto"}), ("required", {"type": "any"}), (None, {"type": "auto"})]
)
@pytest.mark.parametrize("flat", [True, False])
def test_allowed_tools_filter_the_tools(mode: str | None, made: dict[str, str], flat: bool) -> None:
    other = {"type": "function", "function": {"name": "other"}}
    allowed = {"mode": mode, "tools": [{"type": "function", "function": {"name": "look"}}]}
    choice = {"type": "allowed_tools", **allowed} if flat else {"type": "allowed_tools", "allowed_tools": allowed}
    body = sent(tools=[other, TOOL], tool_choice=choice)
    assert [tool["name"] for tool in body["tools"]] == ["look"]
    assert body["tool_choice"] == made


@pytest.mark.parametrize(
    "model", ["claude-opus-5-5", "claude-sonnet-5.5-20261101", "claude-fable-5-1", "claude-mythos-5-1"]
)
def test_a_model_that_cannot_be_made_to_call_refuses_that_choice_only(model: str) -> None:
    assert refused(model, tools=[TOOL], tool_choice="required").field == "tool_choice"
    assert sent(model, tools=[TOOL], tool_choice="auto")["tool_choice"] == {"type": "auto"}


# -- sampling, thinking, output ----------------------------------------------------------------------------------------


def test_the_newer_word_for_the_most_tokens_goes_before_the_older() -> None:
    assert sent(max_tokens=5)["max_tokens"] == 5
    assert sent(max_tokens=5, max_completion_tokens=7)["max_tokens"] == 7


@pytest.mark.parametrize(
    ("temperature", "made", "named"),
    [(0, 0, ()), (0.7, 0.7, ()), (1, 1, ()), (1.5, 1, ("temperature",)), (-1, 0, ("temperature",))],
)
def test_the_temperature_is_clamped_and_named_then(temperature: float, made: float, named: tuple[str, ...]) -> None:
    assert sent(temperature=temperature)["temperature"] == made
    assert dropped(temperature=temperature) == named


@pytest.mark.parametrize("model", ["claude-opus-4-7", "claude-sonnet-5", "claude-unheard-of", "other"])
def test_a_model_without_sampling_is_sent_none_and_what_mattered_is_named(model: str) -> None:
    body = sent(model, temperature=0.5, top_p=1)
    assert "temperature" not in body
    assert "top_p" not in body
    assert dropped(model, temperature=0.5, top_p=1) == ("temperature",)


@pytest.mark.parametrize("stop", ["END", ["END", " ", "\n", ""]])
def test_stops_without_those_of_white_space(stop: object) -> None:
    assert sent(stop=stop)["stop_sequences"] == ["END"]
    assert "stop_sequences" not in sent(stop=["\n"])


@pytest.mark.parametrize(
    ("effort", "level"), [("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("max", "max")]
)
@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-sonnet-5", "claude-next"])
def test_an_effort_is_adaptive_thinking_where_the_model_knows_it(model: str, effort: str, level: str) -> None:
    body = sent(model, reasoning_effort=effort)
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": level}


def test_the_effort_below_the_highest_is_the_highest_where_there_is_none_between() -> None:
    assert sent("claude-opus-4-6", reasoning_effort="xhigh")["output_config"] == {"effort": "max"}
    assert sent("claude-opus-4-7", reasoning_effort="xhigh")["output_config"] == {"effort": "xhigh"}


@pytest.mark.parametrize(
    ("effort", "most", "budget"),
    [
        ("minimal", 4096, 1024),
        ("low", 4096, 1024),
        ("medium", 8192, 4096),
        ("high", 16384, 8192),
        ("max", 64000, 16384),
        ("high", 4096, 4095),
        ("high", 1025, 1024),
    ],
)
@pytest.mark.parametrize("model", ["claude-3-7-sonnet-latest", "claude-sonnet-4-20250514", "claude-opus-4-5@20251101"])
def test_an_effort_is_a_budget_below_the_most_tokens_for_older_models(
    model: str, effort: str, most: int, budget: int
) -> None:
    body = sent(model, reasoning_effort=effort, max_tokens=most)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert body["max_tokens"] == most


@pytest.mark.parametrize(("effort", "budget"), [("low", 1024), ("high", 8192), ("max", 16384)])
def test_a_budget_leaves_the_answer_its_room_where_the_client_set_no_most_tokens(effort: str, budget: int) -> None:
    body = sent(reasoning_effort=effort)
    assert (body["thinking"]["budget_tokens"], body["max_tokens"]) == (budget, budget + 4096)


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (MODEL, {"max_tokens": 1024}),
        ("claude-3-5-sonnet-latest", {}),
        (MODEL, {"tools": [TOOL], "tool_choice": "required"}),
        (MODEL, {"messages": [*HELLO, {"role": "assistant", "tool_calls": [CALL]}]}),
    ],
)
def test_thinking_that_cannot_be_is_dropped_by_name(model: str, body: dict[str, Any]) -> None:
    assert "thinking" not in sent(model, reasoning_effort="high", **body)
    assert dropped(model, reasoning_effort="high", **body) == ("reasoning_effort",)


def test_with_thinking_there_is_no_sampling() -> None:
    body = sent(reasoning_effort="low", temperature=0.5)
    assert "temperature" not in body
    assert dropped(reasoning_effort="low", temperature=0.5) == ("temperature",)


def test_a_tool_loop_that_thought_goes_on_thinking() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    messages = [*HELLO, {"role": "assistant", "tool_calls": [CALL], "thinking_blocks": [thought]}]
    assert "thinking" in sent(messages=messages, reasoning_effort="low")


def formatted(schema: dict[str, Any], model: str = MODEL) -> Any:
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}
    return sent(model, response_format=wanted)["output_config"]["format"]["schema"]


def test_a_schema_is_closed_everywhere_and_nothing_else_of_its_structure_changes() -> None:
    assert formatted(SCHEMA) == {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/x"},
            "b": {"anyOf": [{"type": "string", "description": '{pattern: "^x"}'}]},
        },
        "required": ["a"],
        "additionalProperties": False,
        "$defs": {"x": {"type": "integer", "description": "{minimum: 1}"}},
    }


def test_names_of_properties_are_no_keywords() -> None:
    inner = {"type": "object", "properties": {}, "additionalProperties": False}
    names = ("enum", "const", "default", "required", "items", "minimum", "type", "anyOf", "properties")
    schema = {"type": "object", "properties": {name: {"type": "object", "properties": {}} for name in names}}
    assert formatted(schema)["properties"] == dict.fromkeys(names, inner)


def test_a_schema_that_is_no_object_stays_as_it_is() -> None:
    schema = {"type": "object", "properties": {"a": True, "b": {"anyOf": [False, {"type": "null"}]}}}
    assert formatted(schema)["properties"] == schema["properties"]


def test_a_second_list_of_alternatives_becomes_words() -> None:
    schema = {"anyOf": [{"type": "string"}], "oneOf": [{"type": "null"}]}
    assert formatted(schema) == {"anyOf": [{"type": "string"}], "description": '{oneOf: [{"type":"null"}]}'}


@pytest.mark.parametrize("kind", [["object", "null"], None])
def test_an_object_is_closed_however_it_is_told(kind: object) -> None:
    schema: dict[str, Any] = {"properties": {"a": {"type": "string"}}}
    assert formatted(schema | ({"type": kind} if kind else {}))["additionalProperties"] is False


def test_keywords_that_nobody_enforces_become_words() -> None:
    schema = {
        "type": "array",
        "items": {"type": "string", "format": "date", "maxLength": 3},
        "minItems": 1,
        "maxItems": 9,
    }
    assert formatted({**schema, "description": "Days."}) == {
        "type": "array",
        "items": {"type": "string", "format": "date", "description": "{maxLength: 3}"},
        "minItems": 1,
        "description": "Days.\n\n{maxItems: 9}",
    }
    assert formatted({"type": "string", "format": "regex", "minItems": 2})["description"] == (
        '{format: "regex", minItems: 2}'
    )


def test_values_of_an_enum_are_kept_whatever_they_look_like() -> None:
    values = [{"type": "object"}, {"minimum": 1}]
    assert formatted({"enum": values, "default": values[0]}) == {"enum": values, "default": values[0]}


def test_a_schema_and_an_effort_go_together() -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    body = sent("claude-opus-4-6", reasoning_effort="low", response_format=wanted)
    assert set(body["output_config"]) == {"effort", "format"}


def test_a_schema_for_a_model_that_takes_none_is_refused() -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    assert refused("claude-3-5-sonnet-latest", response_format=wanted).field == "response_format"


def test_json_without_a_schema_is_asked_for_in_words_and_named() -> None:
    body = sent(response_format={"type": "json_object"})
    assert body["system"] == [text("Answer with one JSON object and nothing else.")]
    assert dropped(response_format={"type": "json_object"}) == ("response_format",)


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_who_asks_is_told_by_the_newer_name_first() -> None:
    assert sent(user="u")["metadata"] == {"user_id": "u"}
    assert sent(user="u", safety_identifier="s")["metadata"] == {"user_id": "s"}


@pytest.mark.parametrize(
    ("tier", "made", "named"),
    [
        ("auto", "auto", ()),
        ("default", "standard_only", ()),
        ("priority", "auto", ()),
        ("fast", "auto", ()),
        ("flex", None, ("service_tier",)),
        ("scale", None, ("service_tier",)),
    ],
)
def test_service_tiers(tier: object, made: str | None, named: tuple[str, ...]) -> None:
    assert sent(service_tier=tier).get("service_tier") == made
    assert dropped(service_tier=tier) == named


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-2.1", (2, 1)),
        ("claude-instant-1.2", (1, 2)),
        ("claude-3-opus-20240229", (3, 0)),
        ("claude-3-5-sonnet-20241022", (3, 5)),
        ("claude-3-7-sonnet-latest", (3, 7)),
        ("claude-4-sonnet-20250514", (4, 0)),
        ("claude-sonnet-4-20250514", (4, 0)),
        ("claude-opus-4-1-20250805", (4, 1)),
        ("claude-haiku-4-5", (4, 5)),
        ("claude-opus-4.6", (4, 6)),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", (4, 5)),
        ("claude-opus-4-6@20260101", (4, 6)),
        ("claude-opus-5", (5, 0)),
        ("claude-opus-10-12", (10, 12)),
        ("claude-next", (99, 0)),
        ("gpt-4o", (99, 0)),
        ("", (99, 0)),
    ],
)
def test_a_models_generation_is_read_off_its_name(model: str, version: tuple[int, int]) -> None:
    able = capabilities(model)
    assert (able.sampling, able.budgets, able.adaptive, able.schemas, able.mid_system) == (
        version <= (4, 6),
        (3, 7) <= version < (4, 6),
        version >= (4, 6),
        version >= (4, 5),
        version >= (4, 8) and "claude" in model,
    )
