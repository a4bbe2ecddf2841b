"""From the end of a call to its row: what is known, what is free, what is unknown, and what no provider or client can do to the ledger."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from runestone.config.settings import Price
from runestone.domain.chat import Usage
from runestone.domain.failure import TREATMENTS
from runestone.ledger.row import COLUMNS, Answers, Ended, Row, all_priced, answer_cost, priced
from runestone.telemetry.events import RequestFinished
from tests.ledger.rows import USAGE, event

NOW = 1_793_491_200.123_456_7
OWN = {"mine": Price(input_per_million_usd=Decimal("0.15"), output_per_million_usd=Decimal("0.60"))}


def of(**given: Any) -> Row:
    return priced(Ended(NOW, event(**given)), OWN, {})


def test_a_row_holds_what_the_call_has_told() -> None:
    row = of(model="mine", stream=True, number=2, api="messages")

    assert (row.ended_ms, row.request_id, row.number) == (1_793_491_200_123, "req_1", 2)
    assert (row.key_name, row.group_name, row.provider, row.kind, row.model) == ("team", "g", "a", "openai", "mine")
    assert (row.api, row.stream, row.outcome, row.duration_ms, row.first_content_ms) == (
        "messages",
        True,
        "ok",
        250,
        100,
    )
    assert (row.input_tokens, row.output_tokens, row.cached_tokens) == (1000, 100, 10)
    assert (row.cache_write_tokens, row.reasoning_tokens) == (5, 7)
    assert row.cost_picodollars == 1000 * 150_000 + 100 * 600_000
    assert len(row) == len(COLUMNS) == 27


def test_a_row_holds_what_else_an_invoice_depends_on_and_nothing_of_it_where_nothing_was_told() -> None:
    usage = replace(
        USAGE,
        cache_write_1h_tokens=2,
        audio_input_tokens=3,
        audio_output_tokens=4,
        web_searches=5,
        service_tier="batch",
        region="us",
    )

    told, untold = of(usage=usage), of(usage=None)

    assert (told.cache_write_1h_tokens, told.audio_input_tokens, told.audio_output_tokens) == (2, 3, 4)
    assert (told.web_searches, told.service_tier, told.region) == (5, "batch", "us")
    assert (untold.cache_write_1h_tokens, untold.audio_input_tokens, untold.audio_output_tokens) == (None, None, None)
    assert (untold.web_searches, untold.service_tier, untold.region) == (None, None, None)


def test_what_the_provider_says_that_it_charges_is_booked_as_told_unless_the_operator_has_a_price() -> None:
    usage = replace(USAGE, charged_picodollars=37_756)
    told, own, odd = (
        of(usage=usage, model="theirs"),
        of(usage=usage, model="mine"),
        of(usage=replace(usage, charged_picodollars=2**63)),
    )
    nothing = of(usage=replace(USAGE, input_tokens=0, output_tokens=0, charged_picodollars=5), model="theirs")

    assert (told.cost_picodollars, told.cost_told) == (37_756, True)
    assert (own.cost_picodollars, own.cost_told) == (1000 * 150_000 + 100 * 600_000, False)
    assert not odd.cost_told
    assert (nothing.cost_picodollars, nothing.cost_told) == (5, True)


@pytest.mark.parametrize(
    ("told", "cost"),
    [
        ({}, (1000 * 0.15 + 100 * 0.60) / 1e6),
        ({"outcome": "truncated"}, (1000 * 0.15 + 100 * 0.60) / 1e6),
        ({"model": "theirs"}, None),
        ({"model": "theirs", "usage": replace(USAGE, charged_picodollars=37_756)}, 37_756e-12),
        ({"usage": None}, None),
        ({"usage": replace(USAGE, output_tokens=-1)}, None),
        ({"model": None, "provider": None, "kind": None, "outcome": "server_error", "status": 502}, None),
        ({"route": "/v1/messages/count_tokens"}, 0),
    ],
)
def test_what_the_access_line_says_is_the_price_of_the_call_that_answered(
    told: dict[str, Any], cost: float | None
) -> None:
    assert answer_cost(_done(**told), OWN, NOW, {}) == cost


def _done(**told: Any) -> RequestFinished:
    done: dict[str, Any] = {
        "request_id": "req_1", "route": "/v1/chat/completions", "stream": False, "status": 200, "outcome": "ok",
        "duration_seconds": 1.0, "provider": "a", "model": "mine", "attempts": 1, "usage": USAGE, "kind": "openai",
    }  # fmt: skip
    return RequestFinished(**{**done, **told})


def test_an_answer_that_the_log_has_priced_is_not_priced_again_and_no_other_call_takes_its_price() -> None:
    answers: Answers = {}
    mine, dearer = replace(USAGE), {"mine": Price(input_per_million_usd=Decimal(1), output_per_million_usd=Decimal(1))}
    cost = answer_cost(_done(usage=mine), OWN, NOW, answers)
    others = [event(model="mine", usage=replace(USAGE)), event(model="else", usage=mine)]

    assert [priced(Ended(NOW, other), dearer, {**answers}).cost_picodollars for other in others] == [
        1_100_000_000,
        None,
    ]
    first, again = (priced(Ended(NOW, event(model="mine", usage=mine)), dearer, answers) for _ in range(2))
    assert first.cost_picodollars == round((cost or 0) * 1e12) == 1000 * 150_000 + 100 * 600_000
    assert again.cost_picodollars == 1_100_000_000


def test_what_the_provider_charges_is_booked_as_told_when_the_log_has_met_it_first() -> None:
    answers: Answers = {}
    usage = replace(USAGE, charged_picodollars=37_756)
    answer_cost(_done(usage=usage, model="theirs"), OWN, NOW, answers)

    row = priced(Ended(NOW, event(usage=usage, model="theirs")), OWN, answers)

    assert (row.cost_picodollars, row.cost_told, answers) == (37_756, True, {})


def test_answers_that_no_ledger_asks_for_do_not_pile_up() -> None:
    answers: Answers = {}
    kept = [replace(USAGE) for _ in range(12_000)]
    for usage in kept:
        answer_cost(_done(usage=usage), OWN, NOW, answers)

    assert len(answers) == 2000


def test_ids_differ_and_begin_with_the_time() -> None:
    rows = all_priced([Ended(NOW, event())] * 1000, OWN, {})

    assert len({row.id for row in rows}) == 1000
    assert {(len(row.id), int.from_bytes(row.id[:6], "big")) for row in rows} == {(16, 1_793_491_200_123)}


@pytest.mark.parametrize(
    ("outcome", "cost"),
    [(kind, 0 if kind in {"refused", "unsupported", "dns", "tls", "connect_timeout", "server_error", "overloaded", "rate_limited", "quota_exceeded", "credentials",
     "forbidden", "not_found", "caller_error"} else None) for kind in ("ok", "cancelled", *TREATMENTS)],
)  # fmt: skip
def test_without_usage_what_was_refused_is_free_and_anything_else_is_unknown(outcome: str, cost: int | None) -> None:
    row = of(outcome=outcome, usage=None, first_content_seconds=None)

    assert (row.cost_picodollars, row.input_tokens, row.reasoning_tokens) == (cost, None, None)


def test_what_broke_after_its_first_content_is_unknown_without_usage_and_known_with_it() -> None:
    assert of(outcome="server_error", usage=None, first_content_seconds=0.1).cost_picodollars is None
    assert of(outcome="truncated", model="mine").cost_picodollars == 210_000_000


def test_a_model_without_a_price_is_unknown() -> None:
    assert of(model="nobody-knows-this-one").cost_picodollars is None


def test_a_count_of_tokens_is_free() -> None:
    assert of(api="count_tokens", usage=None).cost_picodollars == 0


@pytest.mark.parametrize("name", Usage.__struct_fields__[:9])
@pytest.mark.parametrize("odd", [-1, 2**31, 10**40, 1.5, True, None, "7"])
def test_numbers_that_cannot_be_are_as_if_nothing_was_told(name: str, odd: Any) -> None:
    row = of(model="mine", usage=replace(USAGE, **{name: odd}))

    assert (row.input_tokens, row.output_tokens, row.cost_picodollars) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a\0b", "a\ufffdb"), ("\ud800x", "?x"), ("x" * 10_000, "x" * 200), ("\U0001f600" * 300, "\U0001f600" * 200),
        ("sk-0123456789abcdef", "***"), ("", ""),
    ],
)  # fmt: skip
def test_a_name_is_kept_as_a_database_takes_it(name: str, kept: str) -> None:
    assert of(model=name).model == kept


def test_a_usage_that_a_list_of_prices_cannot_take_is_of_unknown_cost() -> None:
    odd = Price(input_per_million_usd=Decimal("sNaN"), output_per_million_usd=Decimal(1))
    row = priced(Ended(NOW, event(model="odd")), {"odd": odd}, {})

    assert (row.input_tokens, row.cost_picodollars) == (USAGE.input_tokens, None)


def test_a_provider_s_kind_that_nobody_knows_has_no_price_and_no_crash() -> None:
    assert of(kind="pigeon").cost_picodollars is None
