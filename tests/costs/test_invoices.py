"""Invoices: bodies as the vendors send them, through the codecs, priced by hand to the last digit.

The prices stand here, so that the package's may change. Sums are in millionths of a dollar, as prices are for a million tokens.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from attrs import frozen

from runestone.config.settings import Price
from runestone.costs.billing import Billed, billed, call_cost, charged
from runestone.costs.rates import PICODOLLARS
from runestone.domain.chat import Api, ChatRequest, Usage, Wire
from runestone.ledger.row import Ended, all_priced
from runestone.providers.codecs import codec_for
from runestone.telemetry.events import AttemptFinished


def price(given: str, made: str, cached: str | None = None, **more: Any) -> Price:
    others: dict[str, Any] = {n: value if n == "factors" else Decimal(value) for n, value in more.items()}
    return Price(
        input_per_million_usd=Decimal(given),
        output_per_million_usd=Decimal(made),
        cached_input_per_million_usd=None if cached is None else Decimal(cached),
        **others,
    )


MINI = price(
    "0.15", "0.60", "0.075", factors={"batch": Decimal("0.5"), "flex": Decimal("0.5"), "priority": Decimal("1.7")}
)
THINKER = price("2", "8", "0.50")
AUDIO = price("2.50", "10", audio_input_per_million_usd="40", audio_output_per_million_usd="80")
WRITER = price("1.25", "10", "0.125", cache_write_per_million_usd="1.5625", factors={"flex": Decimal("0.5")})
SEEKER = price("1.25", "10", web_search_per_thousand_usd="10")
CLAUDE = price(
    "3",
    "15",
    "0.30",
    cache_write_per_million_usd="3.75",
    cache_write_1h_per_million_usd="6",
    web_search_per_thousand_usd="10",
    factors={"batch": Decimal("0.5"), "us": Decimal("1.1")},
)
EMBEDDING = price("0.02", "0")
GROK = price("1.25", "2.50", "0.20")
GEMINI = price("0.30", "2.50", "0.03")
LLAMA = price("0.59", "0.79")
DEEPSEEK = price("0.27", "1.10", "0.07")
INSTRUCT = price("1.50", "2")


# -- whole answers as the vendors send them ------------------------------------------------------------------------------


def chat(usage: Any, **more: Any) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Hello!", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return orjson.dumps(
        {"id": "chatcmpl-1", "object": "chat.completion", "created": 1741569952, "model": "m", "choices": [choice]}
        | {"usage": usage}
        | more
    )


def tokens(
    prompt: int,
    completion: int,
    *,
    cached: int = 0,
    written: int | None = None,
    thought: int = 0,
    heard: int = 0,
    said: int = 0,
) -> dict[str, Any]:
    """OpenAI's usage object of a chat."""
    details = {} if written is None else {"cache_write_tokens": written}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": heard} | details,
        "completion_tokens_details": {
            "reasoning_tokens": thought,
            "audio_tokens": said,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def message(usage: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": "Hi!"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
    )


def claude(given: int, made: int, *, read: int = 0, five: int = 0, hour: int = 0, **more: Any) -> dict[str, Any]:
    """Anthropic's usage object."""
    return {
        "input_tokens": given,
        "cache_creation_input_tokens": five + hour,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
        "output_tokens": made,
        "service_tier": "standard",
        "inference_geo": "not_available",
    } | more


def response(usage: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    words = [{"type": "output_text", "text": "Hi", "annotations": []}]
    output = [{"type": "message", "id": "msg_1", "status": status, "role": "assistant", "content": words}]
    return {"id": "resp_1", "object": "response", "status": status, "error": None, "output": output} | {
        "usage": usage
    } | more  # fmt: skip


def searched(usage: Any) -> dict[str, Any]:
    """A response that has searched the web twice, the first time without saying what it did, and opened a page."""
    actions: list[dict[str, Any] | None] = [None, {"type": "search", "query": "q"}, {"type": "open_page", "url": "u"}]
    calls = [
        {"type": "web_search_call", "id": f"ws_{n}", "status": "completed"}
        | ({} if action is None else {"action": action})
        for n, action in enumerate(actions)
    ]
    told = response(usage)
    return told | {"output": [*calls, *told["output"]]}


def counted(given: int, made: int, *, cached: int = 0, thought: int = 0) -> dict[str, Any]:
    """OpenAI's usage object of a response."""
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": given + made,
    }


# -- streams as the vendors send them ------------------------------------------------------------------------------------


def chunks(*more: dict[str, Any], first: dict[str, Any] | None = None, finish: bool = True) -> bytes:
    """A stream of OpenAI's chat: role, a word, the finish reason, then ``more`` and its end."""
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def delta(words: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return frame | {"choices": [{"index": 0, "delta": words, "finish_reason": reason}]}

    told = [delta({"role": "assistant", "content": ""}) | (first or {}), delta({"content": "Hello"})]
    told += [delta({}, "stop")] if finish else []
    lines = [b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in (*told, *(frame | m for m in more))]
    return b"".join(lines) + (b"data: [DONE]\n\n" if finish else b"")


def last(usage: dict[str, Any]) -> dict[str, Any]:
    return {"choices": [], "usage": usage}


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def began(usage: dict[str, Any]) -> bytes:
    """The start of a stream of Anthropic's, up to its first word."""
    head: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "m",
        "stop_reason": None,
    }
    return (
        event("message_start", message=head | {"usage": usage})
        + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"})
    )


def ended(usage: dict[str, Any]) -> bytes:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return (
        event("content_block_stop", index=0)
        + event("message_delta", delta=delta, usage=usage)
        + event("message_stop")
    )  # fmt: skip


def responding(kind: str, told: dict[str, Any]) -> bytes:
    return (
        event("response.created", response=response(None, "in_progress"))
        + event("response.output_text.delta", delta="Hi")
        + event(kind, response=told)
    )


OVERLOADED = event("error", error={"type": "overloaded_error", "message": "Overloaded"})


@frozen(kw_only=True)
class Invoice:
    """``dollars`` for ``body``, an answer or a stream of ``kind`` to a client that asked by ``api``; ``None``: nobody can know."""

    what: str
    kind: str
    body: bytes
    price: Price
    dollars: str | None
    api: Api = "chat"
    stream: bool = False
    billed: Billed = "whole"


INVOICES = [
    # OpenAI, whole ------------------------------------------------------------------------------------------------------
    # 19 x 0.15 = 2.85; 10 x 0.60 = 6
    Invoice(what="plain", kind="openai", body=chat(tokens(19, 10)), price=MINI, dollars="0.00000885"),
    # cached are in the prompt: (2006 - 1920) x 0.15 = 12.9; 1920 x 0.075 = 144; 300 x 0.60 = 180
    Invoice(what="cached", kind="openai", body=chat(tokens(2006, 300, cached=1920)), price=MINI, dollars="0.0003369"),
    # thoughts are in the completion: 75 x 2 = 150; 1186 x 8 = 9488
    Invoice(what="thinks", kind="openai", body=chat(tokens(75, 1186, thought=1024)), price=THINKER, dollars="0.009638"),
    # text in 117 - 98 = 19 x 2.50 = 47.5; audio in 98 x 40 = 3920; text out 276 - 234 = 42 x 10 = 420; audio out 234 x 80 = 18720
    Invoice(what="audio", kind="openai", body=chat(tokens(117, 276, heard=98, said=234)), price=AUDIO, dollars="0.0231075"),
    # audio at a price for text alone
    Invoice(what="audio without a price", kind="openai", body=chat(tokens(117, 276, heard=98)), price=MINI, dollars=None),
    # (5000 - 1000 - 3000) x 1.25 = 1250; 1000 x 0.125 = 125; 3000 x 1.5625 = 4687.5; 200 x 10 = 2000
    Invoice(what="cache written", kind="openai", body=chat(tokens(5000, 200, cached=1000, written=3000)), price=WRITER, dollars="0.0080625"),
    # (1000 x 0.15 + 1000 x 0.60) x 1.7 = 750 x 1.7
    Invoice(what="priority", kind="openai", body=chat(tokens(1000, 1000), service_tier="priority"), price=MINI, dollars="0.001275"),
    # ((4000 - 1024) x 0.15 + 1024 x 0.075 + 100 x 0.60) x 0.5 = (446.4 + 76.8 + 60) x 0.5
    Invoice(what="flex", kind="openai", body=chat(tokens(4000, 100, cached=1024), service_tier="flex"), price=MINI, dollars="0.0002916"),
    # 150 + 600
    Invoice(what="the default tier", kind="openai", body=chat(tokens(1000, 1000), service_tier="default"), price=MINI, dollars="0.00075"),
    Invoice(what="a tier without a factor", kind="openai", body=chat(tokens(1000, 1000), service_tier="scale"), price=MINI, dollars=None),
    Invoice(what="a tier that is new", kind="openai", body=chat(tokens(1000, 1000), service_tier="warp"), price=MINI, dollars=None),
    Invoice(what="no usage", kind="openai", body=chat(None), price=MINI, dollars=None, billed="unknown"),
    Invoice(what="an empty usage", kind="openai", body=chat({}), price=MINI, dollars=None, billed="unknown"),
    # read for a client of the other wire, as "cached" above
    Invoice(what="translated", kind="openai", api="messages", body=chat(tokens(2006, 300, cached=1920)), price=MINI, dollars="0.0003369"),
    # 5 x 1.50 = 7.5; 7 x 2 = 14
    Invoice(what="an older completion", kind="openai", api="completions", price=INSTRUCT, dollars="0.0000215",
            body=orjson.dumps({"object": "text_completion", "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}],
                               "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}})),
    # 8 x 0.02 = 0.16
    Invoice(what="embeddings", kind="openai", api="embeddings", price=EMBEDDING, dollars="0.00000016",
            body=orjson.dumps({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}], "model": "m",
                               "usage": {"prompt_tokens": 8, "total_tokens": 8}})),
    # OpenAI, streamed ---------------------------------------------------------------------------------------------------
    # as "cached" above
    Invoice(what="streamed", kind="openai", stream=True, body=chunks(last(tokens(2006, 300, cached=1920))), price=MINI, dollars="0.0003369"),
    Invoice(what="streamed and translated", kind="openai", api="messages", stream=True, body=chunks(last(tokens(2006, 300, cached=1920))), price=MINI, dollars="0.0003369"),
    # the tier is told at the start alone: 750 x 1.7
    Invoice(what="streamed by priority", kind="openai", stream=True, body=chunks(last(tokens(1000, 1000)), first={"service_tier": "priority"}), price=MINI, dollars="0.001275"),
    Invoice(what="streamed by priority and translated", kind="openai", api="messages", stream=True, price=MINI, dollars="0.001275",
            body=chunks(last(tokens(1000, 1000)), first={"service_tier": "priority"})),
    Invoice(what="streamed without usage", kind="openai", stream=True, body=chunks(), price=MINI, dollars=None, billed="unknown"),
    Invoice(what="cut before the usage", kind="openai", stream=True, body=chunks(finish=False), price=MINI, dollars=None, billed="unknown"),
    # a server that counts in every chunk, cut: 10 x 0.15 = 1.5; 1 x 0.60
    Invoice(what="cut with usage so far", kind="vllm", stream=True, body=chunks(last(tokens(10, 1)), finish=False), price=MINI, dollars="0.0000021", billed="at_least"),
    # Responses ----------------------------------------------------------------------------------------------------------
    # ((328 - 256) x 1.25 + 256 x 0.125 + 52 x 10) x 0.5 = (90 + 32 + 520) x 0.5
    Invoice(what="a response by flex", kind="openai", api="responses", body=orjson.dumps(response(counted(328, 52, cached=256), service_tier="flex")), price=WRITER, dollars="0.000321"),
    # 37 x 1.25 = 46.25; 11 x 10 = 110
    Invoice(what="a response streamed", kind="openai", api="responses", stream=True, body=responding("response.completed", response(counted(37, 11))), price=WRITER, dollars="0.00015625"),
    # out of tokens while it thought: 37 x 1.25 = 46.25; 64 x 10 = 640
    Invoice(what="a response that is incomplete", kind="openai", api="responses", stream=True, price=WRITER, dollars="0.00068625",
            body=responding("response.incomplete", response(counted(37, 64, thought=64), "incomplete"))),
    # 37 x 1.25 = 46.25; 5 x 10 = 50
    Invoice(what="a response that failed", kind="openai", api="responses", stream=True, price=WRITER, dollars="0.00009625", billed="at_least",
            body=responding("response.failed", response(counted(37, 5), "failed", error={"code": "server_error", "message": "Oops"}))),
    # two searches at 10 dollars a thousand = 20000, a page that is opened = 0; 8000 x 1.25 = 10000; 400 x 10 = 4000
    Invoice(what="searches of a response", kind="openai", api="responses", body=orjson.dumps(searched(counted(8000, 400))), price=SEEKER, dollars="0.034"),
    Invoice(what="searches of a response streamed", kind="openai", api="responses", stream=True, price=SEEKER, dollars="0.034",
            body=responding("response.completed", searched(counted(8000, 400)))),
    Invoice(what="searches without a price", kind="openai", api="responses", body=orjson.dumps(searched(counted(8000, 400))), price=WRITER, dollars=None),
    # others of OpenAI's wire --------------------------------------------------------------------------------------------
    # 100 x 0.59 = 59; 50 x 0.79 = 39.5
    Invoice(what="groq's last chunk", kind="groq", stream=True, body=chunks({"choices": [], "x_groq": {"id": "r", "usage": {"prompt_tokens": 100, "completion_tokens": 50}}}), price=LLAMA, dollars="0.0000985"),
    # (100 - 64) x 0.27 = 9.72; 64 x 0.07 = 4.48; 20 x 1.10 = 22
    Invoice(what="deepseek's hits", kind="deepseek", price=DEEPSEEK, dollars="0.0000362",
            body=chat({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36})),
    # the tier stands in the usage: (100 x 0.15 + 10 x 0.60) x 0.5 = 21 x 0.5
    Invoice(
        what="openrouter's tier",
        kind="openrouter",
        body=chat(tokens(100, 10) | {"service_tier": "flex"}),
        price=MINI,
        dollars="0.0000105",
    ),
    # thoughts are not in the completion: (10120 - 128) x 1.25 = 12490; 128 x 0.20 = 25.6; (1499 + 2809) x 2.50 = 10770
    Invoice(what="grok's thoughts", kind="xai", body=chat(tokens(10120, 1499, cached=128, thought=2809) | {"total_tokens": 14428}), price=GROK, dollars="0.0232856"),
    # thoughts are in the total alone: 20 x 0.30 = 6; (623 - 20) x 2.50 = 1507.5
    Invoice(what="gemini's thoughts", kind="gemini", body=chat({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}), price=GEMINI, dollars="0.0015135"),
    # Anthropic, whole ---------------------------------------------------------------------------------------------------
    # 2095 x 3 = 6285; 503 x 15 = 7545
    Invoice(what="a message", kind="anthropic", api="messages", body=message(claude(2095, 503)), price=CLAUDE, dollars="0.01383"),
    # thoughts are in the output: as above
    Invoice(what="a message with thoughts", kind="anthropic", api="messages", price=CLAUDE, dollars="0.01383",
            body=message(claude(2095, 503, output_tokens_details={"thinking_tokens": 400}))),
    # cached are not in the input: 50 x 3 = 150; 100000 x 0.30 = 30000; 248 x 3.75 = 930; 503 x 15 = 7545
    Invoice(what="cache read and written", kind="anthropic", api="messages", body=message(claude(50, 503, read=100_000, five=248)), price=CLAUDE, dollars="0.038625"),
    # 2048 x 3 = 6144; 1800 x 0.30 = 540; 148 x 3.75 = 555; 100 x 6 = 600; 503 x 15 = 7545
    Invoice(what="written for 5 minutes and 1 hour", kind="anthropic", api="messages", body=message(claude(2048, 503, read=1800, five=148, hour=100)), price=CLAUDE, dollars="0.015384"),
    # the price of the hour is not known, and is not that of five minutes
    Invoice(what="an hour without a price", kind="anthropic", api="messages", body=message(claude(2048, 503, hour=100)), price=WRITER, dollars=None),
    # (1000 x 3 + 1000 x 15) x 0.5
    Invoice(what="batch", kind="anthropic", api="messages", body=message(claude(1000, 1000, service_tier="batch")), price=CLAUDE, dollars="0.009"),
    # (1000 x 3 + 1000 x 15) x 1.1
    Invoice(what="kept in the US", kind="anthropic", api="messages", body=message(claude(1000, 1000, inference_geo="us")), price=CLAUDE, dollars="0.0198"),
    # both: 18000 x 0.5 x 1.1
    Invoice(what="batch kept in the US", kind="anthropic", api="messages", body=message(claude(1000, 1000, inference_geo="us", service_tier="batch")), price=CLAUDE, dollars="0.0099"),
    Invoice(what="kept elsewhere", kind="anthropic", api="messages", body=message(claude(1000, 1000, inference_geo="moon")), price=CLAUDE, dollars=None),
    Invoice(what="fast without a factor", kind="anthropic", api="messages", body=message(claude(1000, 1000, speed="fast")), price=CLAUDE, dollars=None),
    # 105 x 3 = 315; 6039 x 15 = 90585; 3 searches at 10 dollars a thousand = 30000; no factor for these
    Invoice(what="web searches", kind="anthropic", api="messages", body=message(claude(105, 6039, server_tool_use={"web_search_requests": 3})), price=CLAUDE, dollars="0.1209"),
    # as "cache read and written" above
    Invoice(what="a message translated", kind="anthropic", body=message(claude(50, 503, read=100_000, five=248)), price=CLAUDE, dollars="0.038625"),
    # Anthropic, streamed ------------------------------------------------------------------------------------------------
    # the last count holds: 25 x 3 = 75; 15 x 15 = 225
    Invoice(what="a message streamed", kind="anthropic", api="messages", stream=True, body=began(claude(25, 1)) + ended({"output_tokens": 15}), price=CLAUDE, dollars="0.0003"),
    # the end replaces what the start has told: 10682 x 3 = 32046; 510 x 15 = 7650; 1 search = 10000
    Invoice(what="a search streamed", kind="anthropic", api="messages", stream=True, price=CLAUDE, dollars="0.049696",
            body=began(claude(2679, 3)) + ended({"input_tokens": 10682, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 510, "server_tool_use": {"web_search_requests": 1}})),
    # 3 x 3 = 9; 1000 x 6 = 6000; 20 x 15 = 300
    Invoice(what="an hour's write streamed", kind="anthropic", api="messages", stream=True, body=began(claude(3, 1, hour=1000)) + ended({"output_tokens": 20}), price=CLAUDE, dollars="0.006309"),
    Invoice(what="an hour's write streamed and translated", kind="anthropic", stream=True, body=began(claude(3, 1, hour=1000)) + ended({"output_tokens": 20}), price=CLAUDE, dollars="0.006309"),
    # what had been told: 2000 x 3 = 6000; 1 x 15
    Invoice(what="a message cut", kind="anthropic", api="messages", stream=True, body=began(claude(2000, 1)), price=CLAUDE, dollars="0.006015", billed="at_least"),
    Invoice(what="a message cut and translated", kind="anthropic", stream=True, body=began(claude(2000, 1)), price=CLAUDE, dollars="0.006015", billed="at_least"),
    # 10 x 3 = 30; 1 x 15
    Invoice(what="a message that broke off with an error", kind="anthropic", api="messages", stream=True, body=began(claude(10, 1)) + OVERLOADED, price=CLAUDE, dollars="0.000045", billed="at_least"),
]  # fmt: skip


def read(invoice: Invoice) -> tuple[str, Usage | None]:
    """How the answer ends, and the usage that the codec has read in it."""
    wire: Wire = "anthropic" if invoice.api == "messages" else "openai"
    body = {"model": "m", "max_tokens": 9, "stream": invoice.stream, "messages": [{"role": "user", "content": "Hi"}]}
    question = ChatRequest(
        request_id="r", wire=wire, api=invoice.api, model="m", stream=invoice.stream, body=body, raw=orjson.dumps(body)
    )
    codec = codec_for(invoice.kind, invoice.api)
    if not invoice.stream:
        return "ok", codec.completion(question, invoice.body, created=1).usage
    decoder = codec.stream(question, created=1)
    pieces = [decoder.feed(invoice.body[at : at + 100]) for at in range(0, len(invoice.body), 100)]
    failure = (*pieces, decoder.eof())[-1].failure
    return ("ok" if failure is None else failure.kind), decoder.usage


@pytest.mark.parametrize("invoice", INVOICES, ids=lambda invoice: str(invoice.what))
def test_an_answer_costs_what_its_invoice_says(invoice: Invoice) -> None:
    outcome, usage = read(invoice)
    cost = call_cost(
        outcome, usage, content=True, api=invoice.api, kind=invoice.kind, model="m", own={"m": invoice.price}
    )

    assert cost == (None if invoice.dollars is None else Decimal(invoice.dollars) * PICODOLLARS)
    assert billed(outcome, usage, content=True, api=invoice.api) == invoice.billed


# -- what a provider says that it charges --------------------------------------------------------------------------------

GROK_TOLD = tokens(199, 1, cached=163, thought=325) | {
    "total_tokens": 525, "num_sources_used": 0, "cost_in_usd_ticks": 37_756_000,
}  # fmt: skip


def routed(cost: Any, **more: Any) -> dict[str, Any]:
    """OpenRouter's usage object."""
    return tokens(194, 2) | {"cost": cost} | more


@pytest.mark.parametrize(
    ("what", "kind", "usage", "dollars"),
    [
        # ten thousand million ticks are a dollar
        ("xai", "xai", GROK_TOLD, "0.0037756"),
        ("nothing to pay", "xai", GROK_TOLD | {"cost_in_usd_ticks": 0}, "0"),
        ("openrouter", "openrouter", routed(0.00011018), "0.00011018"),
        ("openrouter's smallest", "openrouter", routed(1.96e-6), "0.00000196"),
        # who is routed with its own key also pays the provider that it is routed to: 0.0042 + 0.0008
        ("own key", "openrouter", routed(0.0042, is_byok=True, cost_details={"upstream_inference_cost": 0.0008}), "0.005"),
        ("no own key", "openrouter", routed(0.0042, is_byok=False, cost_details={"upstream_inference_cost": 0.0042}), "0.0042"),
        ("perplexity", "perplexity", tokens(12, 5) | {"cost": {"request_cost": 0.005, "total_cost": 0.005017}}, "0.005017"),
        ("own key, and nothing of the other bill", "openrouter", routed(0.0042, is_byok=True), None),
        ("no number", "openrouter", routed("0.1"), None),
        ("a negative one", "openrouter", routed(-0.1), None),
        ("yes", "openrouter", routed(True), None),
        ("not said", "xai", tokens(199, 1), None),
        ("said by somebody else", "openai", GROK_TOLD | {"cost": 1}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_provider_says_that_it_charges_is_read(
    what: str, kind: str, usage: dict[str, Any], dollars: str | None, *, stream: bool
) -> None:
    body = chunks(last(usage)) if stream else chat(usage)
    _, told = read(Invoice(what=what, kind=kind, body=body, stream=stream, price=GROK, dollars=None))

    assert told is not None
    said = charged(told, api="chat", model="m", own={})
    assert said == (None if dollars is None else Decimal(dollars) * 10**12)
    assert charged(told, api="chat", model="m", own={"m": GROK}) is None
    assert charged(told, api="count_tokens", model="m", own={}) is None


# -- more calls than one -------------------------------------------------------------------------------------------------


def test_a_request_that_failed_over_costs_what_each_of_its_calls_does() -> None:
    broke = Invoice(what="", kind="anthropic", api="messages", stream=True, body=began(claude(2000, 1)) + OVERLOADED, price=CLAUDE, dollars=None)  # fmt: skip
    answered = Invoice(what="", kind="openai", api="messages", stream=True, body=chunks(last(tokens(2006, 300, cached=1920))), price=MINI, dollars=None)  # fmt: skip
    calls = [
        ("server_error", None, "anthropic", "claude"),
        (*read(broke), "anthropic", "claude"),
        (*read(answered), "openai", "mini"),
    ]
    own = {"claude": CLAUDE, "mini": MINI}

    rows = all_priced(
        [
            Ended(
                1_793_491_200.0 + number,
                AttemptFinished(
                    provider=kind, model=model, stream=True, outcome=outcome, duration_seconds=0.1, first_content_seconds=None,
                    usage=usage, request_id="r", number=number, kind=kind, api="messages",
                ),
            )
            for number, (outcome, usage, kind, model) in enumerate(calls, start=1)
        ],
        own,
        {},
    )  # fmt: skip

    assert [row.outcome for row in rows] == ["server_error", "overloaded", "ok"]
    # refused: nothing; 2000 x 3 + 1 x 15 = 6015; 86 x 0.15 + 1920 x 0.075 + 300 x 0.60 = 336.9 millionths of a dollar
    assert [row.cost_picodollars for row in rows] == [0, 6_015_000_000, 336_900_000]


def usage_told(**counts: Any) -> Usage:
    _, usage = read(
        Invoice(what="", kind="anthropic", api="messages", body=message(counts), price=CLAUDE, dollars=None)
    )
    assert usage is not None
    return usage


def test_what_is_no_count_is_none() -> None:
    assert usage_told(input_tokens=True, output_tokens=2**53 + 1) == Usage(input_tokens=0, output_tokens=0)


def test_no_more_is_kept_for_an_hour_than_was_written() -> None:
    """The end of a stream may replace what was written, and says nothing of the hour."""
    told = usage_told(cache_creation_input_tokens=5, cache_creation={"ephemeral_1h_input_tokens": 100})

    assert (told.cache_write_tokens, told.cache_write_1h_tokens) == (5, 5)
