"""The kinds of provider, as data: a new one is a row here and the shape of its answers in a test, and no code.

What a row does not say is as in OpenAI's wire. Facts are those of the vendors' documentation; what a vendor only ignores needs no rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal

from attrs import field, frozen

from runestone.domain.chat import Api, Wire

Path = tuple[str, ...]


@frozen(kw_only=True)
class Charge:
    """Where a usage object tells what the call costs, and how many picodollars one of it is (US dollars unless it says otherwise).

    ``beside`` is billed to the operator elsewhere, for a call with a key of his own that ``own_key`` tells of.
    """

    path: Path
    picodollars: int = 10**12
    own_key: str | None = None
    beside: Path = ()


@frozen(kw_only=True)
class Row:
    """One kind of provider.

    - ``base_url``: ``None`` where every customer has another one
    - ``key_variable``: where its key is looked for when the settings name no place; ``needs_key``: it serves nobody without
    - ``auth``: the header that carries the key
    - ``default_model``: what it serves in place of another model; ``None``: only what it is set to
    - ``passes``: the routes that it has itself. What else clients ask is translated into its chat, or refused by name
    - ``lacks``: what cannot be translated either
    - ``renames``, ``values``, ``drops``: what becomes of fields of a body, values by field
    - ``usage``: where the usage object stands in an answer, the first place that has one; ``cached``: where it counts cached tokens
    - ``thinks_apart``: ``completion_tokens`` are without those of thinking; ``total_tokens`` hold them
    - ``charge``: where it tells what it charges
    - ``prices``: its name in the price table, where that is another one
    """

    kind: str
    wire: Wire = "openai"
    base_url: str | None = None
    key_variable: str | None = None
    needs_key: bool = True
    auth: Literal["bearer", "x-api-key", "api-key"] = "bearer"
    default_model: str | None = None
    passes: frozenset[Api] = frozenset({"chat", "embeddings"})
    lacks: frozenset[Api] = frozenset({"count_tokens"})
    renames: Mapping[str, str] = field(factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    drops: frozenset[str] = frozenset()
    usage: tuple[Path, ...] = (("usage",),)
    cached: tuple[Path, ...] = (("prompt_tokens_details", "cached_tokens"),)
    thinks_apart: bool = False
    charge: Charge | None = None
    prices: str | None = None

    @property
    def rules(self) -> bool:
        """Whether a body must be touched at all."""
        return bool(self.renames or self.values or self.drops)


_ALL: Final[frozenset[Api]] = frozenset({"chat", "responses", "completions", "embeddings"})
_OLDER: Final[frozenset[Api]] = frozenset({"chat", "completions", "embeddings"})
_CHAT: Final[frozenset[Api]] = frozenset({"chat"})
_NO_EMBEDDINGS: Final[frozenset[Api]] = frozenset({"count_tokens", "embeddings"})

_ROWS: Final = (
    Row(
        kind="openai",
        base_url="https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        default_model="gpt-4o-mini",
        passes=_ALL,
    ),
    Row(
        kind="anthropic",
        wire="anthropic",
        base_url="https://api.anthropic.com/v1",
        key_variable="ANTHROPIC_API_KEY",
        auth="x-api-key",
        default_model="claude-sonnet-4-5",
        passes=frozenset({"messages", "count_tokens"}),
        lacks=frozenset({"embeddings"}),
    ),
    Row(
        kind="groq",
        base_url="https://api.groq.com/openai/v1",
        key_variable="GROQ_API_KEY",
        passes=_CHAT,
        lacks=_NO_EMBEDDINGS,
        usage=(("usage",), ("x_groq", "usage")),  # the last chunk of older streams
    ),
    Row(kind="together", base_url="https://api.together.xyz/v1", key_variable="TOGETHER_API_KEY", passes=_OLDER),
    Row(
        kind="mistral",
        base_url="https://api.mistral.ai/v1",
        key_variable="MISTRAL_API_KEY",
        renames={"max_completion_tokens": "max_tokens", "seed": "random_seed"},
        values={"tool_choice": {"required": "any"}},
        drops=frozenset(
            {"stream_options", "logprobs", "top_logprobs", "user", "service_tier"}
        ),  # unknown fields are a 422
    ),
    Row(
        kind="deepseek",
        base_url="https://api.deepseek.com",
        key_variable="DEEPSEEK_API_KEY",
        passes=_CHAT,
        lacks=_NO_EMBEDDINGS,
        renames={"max_completion_tokens": "max_tokens"},
        cached=(("prompt_tokens_details", "cached_tokens"), ("prompt_cache_hit_tokens",)),
    ),
    Row(
        kind="xai",
        base_url="https://api.x.ai/v1",
        key_variable="XAI_API_KEY",
        thinks_apart=True,
        charge=Charge(path=("cost_in_usd_ticks",), picodollars=100),
        prices="x-ai",
    ),
    Row(
        kind="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        passes=_OLDER,
        charge=Charge(path=("cost",), own_key="is_byok", beside=("cost_details", "upstream_inference_cost")),
    ),
    Row(
        kind="perplexity",
        base_url="https://api.perplexity.ai",
        key_variable="PERPLEXITY_API_KEY",
        passes=_CHAT,
        lacks=_NO_EMBEDDINGS,
        charge=Charge(path=("cost", "total_cost")),
        renames={"max_completion_tokens": "max_tokens"},
    ),
    Row(
        kind="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_variable="FIREWORKS_API_KEY",
        passes=_ALL,
        renames={"max_completion_tokens": "max_tokens"},
    ),
    Row(
        kind="ollama",
        base_url="http://localhost:11434/v1",
        needs_key=False,
        passes=_OLDER,
        renames={"max_completion_tokens": "max_tokens"},
    ),
    Row(kind="vllm", base_url="http://localhost:8000/v1", key_variable="VLLM_API_KEY", needs_key=False, passes=_OLDER),
    Row(
        kind="lmstudio",
        base_url="http://localhost:1234/v1",
        needs_key=False,
        passes=_OLDER,
        renames={"max_completion_tokens": "max_tokens"},
    ),
    Row(kind="azure", key_variable="AZURE_OPENAI_API_KEY", auth="api-key", passes=_ALL),
    Row(
        kind="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_variable="GEMINI_API_KEY",
        thinks_apart=True,
        prices="google",
    ),
    Row(kind="compatible", needs_key=False, passes=_OLDER),
)
CATALOGUE: Final[Mapping[str, Row]] = {row.kind: row for row in _ROWS}
KINDS: Final = tuple(CATALOGUE)
#: Kinds that are there by themselves, as ``KIND-default``, and the beginning of their variables.
BUILT_IN: Final = {"openai": "OPENAI", "anthropic": "ANTHROPIC"}


_THINKS_FIRST: Final = re.compile(
    r"(?:.*/)?(?:ft:)?(?:o\d|gpt-5|deepseek-(?:reasoner|r\d)|grok-[34]|qwq|magistral|gemini-.*(?:pro|thinking)|.*reasoning)",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)
def thinks_first(model: str) -> bool:
    """Whether ``model`` may think for minutes before its first word, and say nothing meanwhile."""
    return _THINKS_FIRST.match(model) is not None


def wire_of(kind: str) -> Wire:
    """Whose wire the provider kind ``kind`` speaks."""
    return CATALOGUE[kind].wire
