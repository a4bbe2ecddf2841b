"""A body of chat completions as the canonical chat: the fields. Messages and tools have modules of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from runestone.domain.conversation import Chat, Effort, Format, Reasoning, Refused
from runestone.providers.codecs.fields import listed, number, positive, text_or_none
from runestone.providers.codecs.openai.messages_reader import turns_of
from runestone.providers.codecs.openai.tools_reader import choice_of, tools_of

_EFFORTS: Final = get_args(Effort)
#: Fields that are read, or that mean nothing to a provider.
_KNOWN: Final = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop",
        "tools", "tool_choice", "parallel_tool_calls", "user", "safety_identifier", "service_tier", "reasoning_effort",
        "response_format", "n", "logprobs", "top_logprobs", "modalities", "audio", "functions", "function_call",
    }
)  # fmt: skip
#: Values with which a field says what it would say by its absence.
_DEFAULTS: Final[dict[str, tuple[object, ...]]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "metadata": ({},),
}


def read(body: Mapping[str, Any]) -> Chat:
    """What ``body`` asks. Raises :class:`Refused` for what no other wire can be asked, or what makes no sense."""
    _refuse_what_changes_the_answer(body)
    tools = tools_of(body)
    return Chat(
        turns=turns_of(body.get("messages")),
        stream=body.get("stream") is True,
        max_tokens=_max_tokens(body),
        temperature=number(body, "temperature"),
        top_p=number(body, "top_p"),
        top_k=positive(body, "top_k"),
        stop=_stop(body.get("stop")),
        tools=tools,
        tool_choice=choice_of(body) if tools else None,
        parallel_tools=body.get("parallel_tool_calls") is not False,
        reasoning=_reasoning(body.get("reasoning_effort")),
        format=_format(body.get("response_format")),
        user=_user(body),
        tier=text_or_none(body, "service_tier"),
        dropped=tuple(
            name
            for name, value in body.items()
            if name not in _KNOWN and value is not None and value not in _DEFAULTS.get(name, ())
        ),
    )


def _refuse_what_changes_the_answer(body: Mapping[str, Any]) -> None:
    if body.get("n") not in (None, 1):
        raise Refused("n", "This provider gives one choice per request: leave n out or set it to 1.")
    for name in ("logprobs", "top_logprobs"):
        if body.get(name):
            raise Refused(name, f"This provider tells no log probabilities: leave {name} out.")
    modalities = body.get("modalities")
    if body.get("audio") or (isinstance(modalities, list) and "audio" in modalities):
        raise Refused("modalities", "This provider answers in text only: leave audio out.")
    moderation = body.get("moderation")
    policy = moderation.get("policy") if isinstance(moderation, Mapping) else None
    if isinstance(policy, Mapping) and any(
        isinstance(p, Mapping) and p.get("mode") == "block" for p in policy.values()
    ):
        raise Refused("moderation", "This provider blocks nothing by a policy of yours: leave moderation.policy out.")


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    given = positive(body, "max_completion_tokens")
    return positive(body, "max_tokens") if given is None else given


def _stop(stop: object) -> tuple[str, ...]:
    if stop is None:
        return ()
    return tuple(listed([stop] if isinstance(stop, str) else stop, "stop", "a string or a list of strings"))


def _reasoning(effort: object) -> Reasoning | None:
    if effort is None:
        return None
    if effort not in _EFFORTS:
        raise Refused("reasoning_effort", f"reasoning_effort must be one of {', '.join(_EFFORTS)}.")
    return Reasoning(effort=effort)  # type: ignore[arg-type] # one of them


def _format(wanted: object) -> Format | None:
    kind = wanted.get("type") if isinstance(wanted, Mapping) else wanted
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return Format(kind="json")
    schema = wanted.get("json_schema") if isinstance(wanted, Mapping) else None
    if kind != "json_schema" or not isinstance(schema, Mapping) or not isinstance(schema.get("schema"), Mapping):
        allowed = "text, json_object, or json_schema with a schema"
        raise Refused("response_format", f"response_format must be of type {allowed}.")
    strict = schema.get("strict")
    return Format(
        kind="schema",
        schema=schema["schema"],
        name=text_or_none(schema, "name", "response_format.json_schema.name"),
        description=text_or_none(schema, "description", "response_format.json_schema.description"),
        strict=strict if isinstance(strict, bool) else None,
    )


def _user(body: Mapping[str, Any]) -> str | None:
    user = body.get("safety_identifier") or body.get("user")
    return str(user) if user else None
