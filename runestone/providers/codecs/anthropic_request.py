"""A chat request in Anthropic's words: the fields. Messages and tools have modules of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from runestone.providers.codecs.anthropic_messages import conversation
from runestone.providers.codecs.anthropic_schema import strict
from runestone.providers.codecs.anthropic_tools import tools_of
from runestone.providers.codecs.claude import Capabilities, capabilities
from runestone.providers.codecs.refusal import Refused

_MAX_TOKENS: Final = 4096
_BUDGETS: Final = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 8192, "xhigh": 16384, "max": 16384}
_EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_TIERS: Final = {"auto": "auto", "default": "standard_only", "priority": "auto", "fast": "auto"}
_JSON_ONLY: Final = "Answer with one JSON object and nothing else."

#: Fields that are translated, or that mean nothing to a provider.
_KNOWN: Final = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop",
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


def translate(body: Mapping[str, Any], *, model: str) -> tuple[dict[str, Any], list[str]]:
    """The body of the request for ``model``, and the names of the fields that were dropped. Raises :class:`Refused`."""
    _refuse_what_changes_the_answer(body)
    able = capabilities(model)
    dropped = [
        name
        for name, value in body.items()
        if name not in _KNOWN and value is not None and value not in _DEFAULTS.get(name, ())
    ]
    system, turns = conversation(body.get("messages"), mid_system=able.mid_system)
    out: dict[str, Any] = {"model": model, "max_tokens": _max_tokens(body), "messages": turns}
    out |= tools_of(body, forced=able.forced_tools)
    out |= _thinking(body, out, able, dropped)
    out |= _sampling(body, able, dropped, thinking="thinking" in out)
    out |= _output(body, out, able, system, dropped)
    out |= _rest(body, dropped)
    if system:
        out["system"] = system
    if body.get("stream"):
        out["stream"] = True
    return out, dropped


def _refuse_what_changes_the_answer(body: Mapping[str, Any]) -> None:
    if body.get("n") not in (None, 1):
        raise Refused("n", "This provider gives one choice per request: leave n out or set it to 1.")
    for name in ("logprobs", "top_logprobs"):
        if body.get(name):
            raise Refused(name, f"This provider tells no log probabilities: leave {name} out.")
    modalities = body.get("modalities")
    if body.get("audio") or (isinstance(modalities, list) and "audio" in modalities):
        raise Refused("modalities", "This provider answers in text only: leave audio out.")
    for name in ("functions", "function_call"):
        if body.get(name):
            raise Refused(name, f"This provider takes tools, not the older functions: replace {name}.")
    moderation = body.get("moderation")
    policy = moderation.get("policy") if isinstance(moderation, Mapping) else None
    if isinstance(policy, Mapping) and any(
        isinstance(p, Mapping) and p.get("mode") == "block" for p in policy.values()
    ):
        raise Refused("moderation", "This provider blocks nothing by a policy of yours: leave moderation.policy out.")


def _max_tokens(body: Mapping[str, Any]) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise Refused(name, f"{name} must be a positive integer.")
            return value
    return _MAX_TOKENS


def _number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise Refused(name, f"{name} must be a number.")


def _sampling(body: Mapping[str, Any], able: Capabilities, dropped: list[str], *, thinking: bool) -> dict[str, Any]:
    temperature, top_p = _number(body, "temperature"), _number(body, "top_p")
    given = {name: value for name, value in (("temperature", temperature), ("top_p", top_p)) if value is not None}
    if not able.sampling or thinking:
        dropped += [name for name, value in given.items() if value != 1]
        return {}
    if temperature is not None and not 0 <= temperature <= 1:
        given["temperature"] = min(max(temperature, 0), 1)
        dropped.append("temperature")  # its range ends at 1 here: it is not what was asked for
    return given


def _thinking(
    body: Mapping[str, Any], out: Mapping[str, Any], able: Capabilities, dropped: list[str]
) -> dict[str, Any]:
    effort = body.get("reasoning_effort")
    if effort in (None, "none"):
        return {}
    if not isinstance(effort, str) or effort not in _EFFORTS:
        raise Refused("reasoning_effort", f"reasoning_effort must be one of none, {', '.join(_EFFORTS)}.")
    forced = out.get("tool_choice", {}).get("type") in ("any", "tool")
    if not forced and not _unsigned_tool_use(out["messages"]):
        if able.adaptive:
            level = "max" if effort == "xhigh" and not able.xhigh else _EFFORTS[effort]
            return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": level}}
        # The budget counts among the most tokens: where the client set none, the answer keeps its room.
        free = body.get("max_completion_tokens") is None and body.get("max_tokens") is None
        most = _BUDGETS[effort] + _MAX_TOKENS if free else out["max_tokens"]
        if able.budgets and most > _BUDGETS["minimal"]:
            budget = min(_BUDGETS[effort], most - 1)
            return {"thinking": {"type": "enabled", "budget_tokens": budget}, "max_tokens": most}
    dropped.append("reasoning_effort")
    return {}


def _unsigned_tool_use(turns: list[dict[str, Any]]) -> bool:
    """A tool loop that began without thinking cannot go on with it."""
    last: list[dict[str, Any]] = next((turn["content"] for turn in reversed(turns) if turn["role"] == "assistant"), [])
    kinds = [block["type"] for block in last]
    return "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")


def _output(
    body: Mapping[str, Any],
    out: Mapping[str, Any],
    able: Capabilities,
    system: list[dict[str, Any]],
    dropped: list[str],
) -> dict[str, Any]:
    wanted = body.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, Mapping) else wanted
    if kind in (None, "text"):
        return {}
    if kind == "json_object":
        system.append({"type": "text", "text": _JSON_ONLY})
        dropped.append("response_format")
        return {}
    schema = wanted.get("json_schema") if isinstance(wanted, Mapping) else None
    if kind != "json_schema" or not isinstance(schema, Mapping) or not isinstance(schema.get("schema"), Mapping):
        raise Refused(
            "response_format", "response_format must be of type text, json_object, or json_schema with a schema."
        )
    if not able.schemas:
        raise Refused("response_format", "This model takes no JSON schema: choose a newer one.")
    try:
        closed = strict(schema["schema"])
    except (RecursionError, orjson.JSONEncodeError):
        raise Refused("response_format", "The schema of response_format is nested too deeply.") from None
    return {"output_config": {**out.get("output_config", {}), "format": {"type": "json_schema", "schema": closed}}}


def _rest(body: Mapping[str, Any], dropped: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    stop = body.get("stop")
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(item, str) for item in stops):
            raise Refused("stop", "stop must be a string or a list of strings.")
        if kept := [item for item in stops if item.strip()]:
            out["stop_sequences"] = kept
    user = body.get("safety_identifier") or body.get("user")
    if user:
        out["metadata"] = {"user_id": str(user)}
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier in _TIERS:
        out["service_tier"] = _TIERS[tier]
    elif tier is not None:
        dropped.append("service_tier")
    return out
