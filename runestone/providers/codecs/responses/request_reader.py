"""A body of responses as the canonical chat: the fields. Items and tools have modules of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from runestone.domain.conversation import Chat, Effort, Format, Reasoning, Refused, Text, Turn
from runestone.providers.codecs.fields import is_table, number, positive, table, text, text_or_none
from runestone.providers.codecs.responses.items_reader import turns_of
from runestone.providers.codecs.responses.tools_reader import choice_of, tools_of

_EFFORTS: Final = get_args(Effort)
#: Fields that are read, or that mean nothing to a provider.
_KNOWN: Final = frozenset(
    {
        "model", "input", "instructions", "stream", "stream_options", "max_output_tokens", "temperature", "top_p", "tools", "tool_choice",
        "parallel_tool_calls", "reasoning", "text", "user", "safety_identifier", "service_tier", "previous_response_id", "conversation",
        "background", "prompt", "top_logprobs",
    }
)  # fmt: skip
#: Values with which a field says what it would say by its absence.
_DEFAULTS: Final[dict[str, tuple[object, ...]]] = {
    "store": (False,),
    "metadata": ({},),
    "truncation": ("disabled",),
    "include": ([], ["reasoning.encrypted_content"]),
}
_REMEMBERED: Final = ("previous_response_id", "conversation", "prompt")


def read(body: Mapping[str, Any]) -> Chat:
    """What ``body`` asks. Raises :class:`Refused` for what no other wire can be asked, or what makes no sense."""
    for name in _REMEMBERED:
        if body.get(name) is not None:
            raise Refused(name, f"This provider remembers nothing: leave {name} out, and send all items as input.")
    if body.get("background"):
        raise Refused("background", "This provider answers at once: leave background out.")
    if body.get("top_logprobs"):
        raise Refused("top_logprobs", "This provider tells no log probabilities: leave top_logprobs out.")
    tools = tools_of(body.get("tools"))
    user = body.get("safety_identifier") or body.get("user")
    wording = table(body.get("text") or {}, "text")
    thinking = table(body.get("reasoning") or {}, "reasoning")
    return Chat(
        turns=(*_instructions(body.get("instructions")), *turns_of(body.get("input"))),
        stream=body.get("stream") is True,
        max_tokens=positive(body, "max_output_tokens"),
        temperature=number(body, "temperature"),
        top_p=number(body, "top_p"),
        tools=tools,
        tool_choice=choice_of(body.get("tool_choice")) if tools else None,
        parallel_tools=body.get("parallel_tool_calls") is not False,
        reasoning=_reasoning(thinking.get("effort")),
        format=_format(wording.get("format")),
        user=str(user) if user else None,
        tier=text_or_none(body, "service_tier"),
        dropped=(*_dropped(body), *(["text.verbosity"] if wording.get("verbosity") else [])),
    )


def _dropped(body: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, value in body.items()
        if name not in _KNOWN and value is not None and value not in _DEFAULTS.get(name, ())
    ]


def _instructions(instructions: object) -> tuple[Turn, ...]:
    if instructions is None or instructions == "":
        return ()
    return (Turn("system", (Text(text(instructions, "instructions"), where="instructions"),), where="instructions"),)


def _reasoning(effort: object) -> Reasoning | None:
    if effort is None:
        return None
    if effort not in _EFFORTS:
        raise Refused("reasoning.effort", f"reasoning.effort must be one of {', '.join(_EFFORTS)}.")
    return Reasoning(effort=effort, where="reasoning.effort")  # type: ignore[arg-type] # one of them


def _format(wanted: object) -> Format | None:
    where = "text.format"
    kind = wanted.get("type") if is_table(wanted) else wanted
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return Format(kind="json", where=where)
    if not is_table(wanted) or kind != "json_schema" or not is_table(wanted.get("schema")):
        raise Refused(where, f"{where} must be of type text, json_object, or json_schema with a schema.")
    strict = wanted.get("strict")
    return Format(
        kind="schema",
        schema=wanted["schema"],
        name=text_or_none(wanted, "name", f"{where}.name"),
        description=text_or_none(wanted, "description", f"{where}.description"),
        strict=strict if isinstance(strict, bool) else None,
        where=where,
    )
