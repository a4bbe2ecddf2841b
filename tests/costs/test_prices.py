"""Prices: the operator's own before the package's, exact sums, and what has no price has none."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import genai_prices
import pytest
from attrs import evolve
from genai_prices import data_snapshot
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from runestone.config.settings import Price
from runestone.costs import prices as costs_prices
from runestone.costs.correction import Correction
from runestone.costs.package import PackagePrices
from runestone.costs.prices import cost, is_quick, quotation
from runestone.costs.rates import Rates, WholeRates, picodollars, priced, whole
from runestone.domain.chat import Usage
from runestone.domain.routing import Choice

WHEN: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
OWN: Final = Price(input_per_million_usd=Decimal(1), output_per_million_usd=Decimal(2))
NONE: Final = MappingProxyType(dict[str, Price]())


def bought(kind: str, model: str, usage: Usage, at: datetime = WHEN) -> Decimal | None:
    return cost(usage, kind, model, NONE, at_epoch=at.timestamp())


def expected(kind: str, model: str, at: datetime = WHEN, context: Any = None, **counts: Any) -> Decimal:
    """What the package itself asks for."""
    return genai_prices.calc_price(
        genai_prices.Usage(**counts),
        model,
        provider_id=kind,
        genai_request_timestamp=at,
        price_context=context,
    ).total_price


# -- the package's -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "model"),
    [("openai", "gpt-4o-mini"), ("openai", "gpt-5"), ("anthropic", "claude-sonnet-4-5"), ("deepseek", "deepseek-chat")],
)
def test_the_package_s_price_holds_where_the_operator_has_none(kind: str, model: str) -> None:
    usage = Usage(input_tokens=5000, output_tokens=700, cached_tokens=1200)

    wanted = expected(kind, model, input_tokens=5000, output_tokens=700, cache_read_tokens=1200)
    assert bought(kind, model, usage) == wanted
    assert wanted > 0
    assert cost(usage, kind, model, {model: OWN}) == Decimal("0.0064")


def test_one_token_above_the_threshold_makes_every_token_dearer() -> None:
    at, above = (bought("gemini", "gemini-2.5-pro", Usage(input_tokens=n, output_tokens=0)) for n in (200_000, 200_001))

    assert (at, above) == (Decimal("0.25"), Decimal("0.5000025"))


def test_writes_of_an_hour_have_the_package_s_price_for_them() -> None:
    usage = Usage(input_tokens=9000, output_tokens=1, cache_write_tokens=8000, cache_write_1h_tokens=5000)
    counts: dict[str, Any] = {
        "input_tokens": 9000,
        "output_tokens": 1,
        "cache_write_tokens": 8000,
        "cache_write_1h_tokens": 5000,
    }

    assert bought("anthropic", "claude-opus-4-5", usage) == expected("anthropic", "claude-opus-4-5", **counts)


@pytest.mark.parametrize("tokens", [200_000, 200_001, 900_000])
def test_a_long_input_is_priced_by_its_threshold(tokens: int) -> None:
    usage = Usage(input_tokens=tokens, output_tokens=10, cached_tokens=100)
    counts: dict[str, Any] = {"input_tokens": tokens, "output_tokens": 10, "cache_read_tokens": 100}

    assert bought("gemini", "gemini-2.5-pro", usage) == expected("google", "gemini-2.5-pro", **counts)


@pytest.mark.parametrize(
    ("kind", "model", "tier", "context"),
    [
        ("openai", "gpt-5", "priority", {"service_tier": "priority"}),
        ("openai", "gpt-5", "flex", {"service_tier": "flex"}),
        ("openai", "gpt-4o-mini", "batch", {"processing": "batch"}),
        ("anthropic", "claude-sonnet-4-5", "batch", {"processing": "batch"}),
        ("anthropic", "claude-opus-4-8", "fast", {"speed": "fast"}),
    ],
)
def test_a_tier_has_the_package_s_price_for_it(kind: str, model: str, tier: Any, context: dict[str, str]) -> None:
    usage = Usage(input_tokens=1000, output_tokens=100, cached_tokens=400, service_tier=tier)
    counts: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 400}

    assert bought(kind, model, usage) == expected(kind, model, context=context, **counts)
    assert bought(kind, model, usage) != bought(kind, model, replace(usage, service_tier="standard"))


@pytest.mark.parametrize(
    ("kind", "model", "usage"),
    [
        ("openai", "nobody-knows", {}),
        ("vllm", "gpt-4o-mini", {}),
        ("openai", "gpt-4o-mini", {"service_tier": "scale"}),
        ("openai", "gpt-4o-mini", {"service_tier": "other"}),
        ("openai", "gpt-4o-audio-preview", {"audio_input_tokens": 5}),
        ("anthropic", "claude-sonnet-4-5", {"service_tier": "priority"}),
        ("anthropic", "claude-sonnet-4-5", {"service_tier": "fast"}),
        ("anthropic", "claude-sonnet-4-5", {"region": "other"}),
        ("azure", "gpt-4o", {"service_tier": "priority"}),
        ("openai", "gpt-5", {"region": "us"}),
        ("groq", "llama-3.3-70b-versatile", {"web_searches": 1}),
        ("perplexity", "sonar-deep-research", {}),  # it bills citations, which it does not tell
    ],
)
def test_what_has_no_price_costs_nobody_knows_what(kind: str, model: str, usage: dict[str, Any]) -> None:
    assert bought(kind, model, Usage(**{"input_tokens": 100, "output_tokens": 10} | usage)) is None


def test_a_tier_has_no_price_before_the_day_from_which_it_is_known() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100, service_tier="priority")

    assert bought("openai", "gpt-5", usage, datetime(2026, 10, 11, tzinfo=UTC)) is None
    assert bought("openai", "gpt-5", usage, datetime(2026, 10, 12, tzinfo=UTC)) == Decimal("0.0045")


def test_a_call_in_the_us_costs_a_tenth_more_at_anthropic_but_for_its_searches() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100)
    plain = bought("anthropic", "claude-opus-4-6", usage)
    assert plain is not None

    assert bought("anthropic", "claude-opus-4-6", replace(usage, region="us")) == plain * Decimal("1.1")
    searched = bought("anthropic", "claude-opus-4-6", replace(usage, region="us", web_searches=2))
    assert searched == plain * Decimal("1.1") + Decimal("0.02")


def test_a_price_is_that_of_the_time_of_the_call() -> None:
    """One changes with the hour of the day, another changed on a day."""
    usage = Usage(input_tokens=1000, output_tokens=100)
    counts: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100}
    for at in (datetime(2026, 11, 20, 0, 29, 59, tzinfo=UTC), datetime(2026, 11, 20, 0, 30, tzinfo=UTC)):
        assert bought("deepseek", "deepseek-chat", usage, at) == expected("deepseek", "deepseek-chat", at, **counts)
    for day in (9, 10):
        at = datetime(2025, 6, day, tzinfo=UTC)
        assert bought("openai", "o3", usage, at) == expected("openai", "o3", at, **counts)
    assert bought("openai", "o3", usage, datetime(2025, 6, 9, tzinfo=UTC)) == Decimal("0.014")


def test_a_model_is_looked_up_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    find_model = genai_prices.types.Provider.find_model

    def noted(provider: genai_prices.types.Provider, model: str, **more: Any) -> genai_prices.types.ModelInfo | None:
        asked.append(model)
        return find_model(provider, model, **more)

    monkeypatch.setattr(genai_prices.types.Provider, "find_model", noted)
    prices, usage = PackagePrices(), Usage(input_tokens=1, output_tokens=1)

    for at in (0.0, 30.0, 59.9, 60.0, 60.0):
        assert prices.rates(usage, "openai", "gpt-4o-mini", at) is not None
        assert prices.rates(usage, "openai", "nobody-knows", at) is None
    assert sorted(asked) == ["gpt-4o-mini", "gpt-4o-mini", "nobody-knows", "nobody-knows"]
    assert prices.has(usage, "openai", "gpt-4o-mini", 61.0)
    assert not prices.has(usage, "openai", "gpt-4o-mini", 120.0)


def test_names_that_nobody_knows_fill_no_memory() -> None:
    prices, usage = PackagePrices(most=10), Usage(input_tokens=1, output_tokens=1)
    snapshot = data_snapshot.get_snapshot()
    before = len(snapshot._provider_cache) + len(snapshot._provider_misses) + len(snapshot._lookup_cache)

    for number in range(50):
        prices.rates(usage, "openai", f"made-up-{number}", 0.0)

    after = len(snapshot._provider_cache) + len(snapshot._provider_misses) + len(snapshot._lookup_cache)
    assert (len(prices._kept), after) == (10, before)


def test_threads_may_ask_at_once() -> None:
    prices, usage, wrong = PackagePrices(most=1), Usage(input_tokens=1000, output_tokens=0), list[object]()
    models = ["gpt-4o-mini", "gpt-4o", "gpt-5", "o3"]
    right = {model: PackagePrices().rates(usage, "openai", model, 0.0) for model in models}
    before = sys.getswitchinterval()

    def ask(start: int) -> None:
        for number in range(start, start + 300):
            model = models[number % len(models)]
            try:
                if prices.rates(usage, "openai", model, 0.0) != right[model]:
                    wrong.append(model)
            except (KeyError, RuntimeError, StopIteration) as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []
    assert len(prices._kept) <= len(threads)


# -- the operator's own --------------------------------------------------------------------------------------------------


def test_new_prices_of_the_operator_hold_at_once() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=0)

    assert cost(usage, "openai", "m", {"m": OWN}) == 1
    assert cost(usage, "openai", "m", {"m": evolve(OWN, input_per_million_usd=Decimal(7))}) == 7
    assert cost(usage, "openai", "m", NONE) is None


def test_the_operator_s_prices_of_ever_new_models_fill_no_memory() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    for number in range(2000):
        assert cost(usage, "openai", f"m{number}", {f"m{number}": OWN}) == 1

    assert len(costs_prices._OWN) <= 1024


def test_what_the_operator_gives_no_price_for_costs_what_input_and_output_do() -> None:
    usage = Usage(
        input_tokens=100, output_tokens=10, cached_tokens=40, cache_write_tokens=50, cache_write_1h_tokens=20,
        reasoning_tokens=9,
    )  # fmt: skip
    assert cost(usage, "openai", "m", {"m": OWN}) == Decimal("0.00012")
    assert cost(replace(usage, audio_output_tokens=1), "openai", "m", {"m": OWN}) is None


def test_parts_that_are_larger_than_their_whole_are_cut_to_it() -> None:
    usage = Usage(
        input_tokens=10, output_tokens=10, cached_tokens=50, cache_write_tokens=9, audio_input_tokens=9,
        reasoning_tokens=99,
    )  # fmt: skip
    assert cost(usage, "openai", "m", {"m": OWN}) == Decimal("0.00003")


def test_a_quotation_is_quick_once_every_price_is_known_and_counts_what_is_learned() -> None:
    usage = Usage(input_tokens=1000, output_tokens=0)
    choices = [(Choice("a", "m"), "openai"), (Choice("b", "gpt-4.1-nano"), "openai"), (Choice("c", "nobody"), "openai")]
    correction = Correction().observed("m", 100, 200)

    asked = quotation(usage, choices, {"m": OWN}, correction)

    assert asked == {"a": 0.002, "b": pytest.approx(0.0001), "c": None}
    assert is_quick(usage, choices, {"m": OWN})
    assert not is_quick(usage, [(Choice("a", "another-one"), "openai")], {"m": OWN})


COUNTS = st.integers(0, 10**7)
PER_MILLION = st.decimals(0, 1000, places=4)
SORTS: Final = ("input", "output", "cached", "write", "write_1h", "reasoning", "audio_input", "audio_output", "search")
RATES = st.builds(Rates, **dict.fromkeys(SORTS, PER_MILLION))


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Usages whose parts add up."""
    plain, cached, five, hour, heard = (draw(COUNTS) for _ in range(5))
    words, thought, said = (draw(COUNTS) for _ in range(3))
    return Usage(
        input_tokens=plain + cached + five + hour + heard,
        output_tokens=words + thought + said,
        cached_tokens=cached,
        cache_write_tokens=five + hour,
        cache_write_1h_tokens=hour,
        audio_input_tokens=heard,
        reasoning_tokens=thought,
        audio_output_tokens=said,
        web_searches=draw(st.integers(0, 100)),
    )


NUMBERS: Final = [name for name, kind in Usage.__annotations__.items() if kind == "int"]


@given(usages(), usages(), RATES)
def test_two_usages_cost_together_what_they_cost_apart(one: Usage, other: Usage, rates: Rates) -> None:
    both = Usage(**{name: getattr(one, name) + getattr(other, name) for name in NUMBERS})
    apart = [priced(usage, rates) for usage in (one, other)]

    assert priced(both, rates) == sum(dollars or 0 for dollars in apart)


@given(st.builds(Usage, **dict.fromkeys(NUMBERS, COUNTS)), RATES)
def test_nobody_is_billed_less_than_nothing_however_odd_the_usage(usage: Usage, rates: Rates) -> None:
    assert (priced(usage, rates) or 0) >= 0


@given(usages(), RATES, st.sampled_from(["input_tokens", "output_tokens", "web_searches"]), st.integers(0, 10**6))
def test_more_of_anything_never_costs_less(usage: Usage, rates: Rates, name: str, more: int) -> None:
    dearer = replace(usage, **{name: getattr(usage, name) + more})

    assert (priced(dearer, rates) or 0) >= (priced(usage, rates) or 0)


@given(usages(), RATES, st.decimals("0.1", 3, places=1))
def test_a_factor_is_for_every_token(usage: Usage, rates: Rates, factor: Decimal) -> None:
    tokens = replace(usage, web_searches=0)

    assert priced(tokens, rates.times(factor)) == (priced(tokens, rates) or 0) * factor


# -- in picodollars -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pico"),
    [("0.000000000001", 1), ("0.0000000000005", 0), ("0.0000000000015", 2), ("1.5", 1_500_000_000_000), ("0", 0)],
)
def test_a_cost_is_the_nearest_picodollar(text: str, pico: int) -> None:
    assert picodollars(Decimal(text)) == pico


@pytest.mark.parametrize("text", ["-0.000001", "NaN", "Infinity", "9223373", "1e300"])
def test_what_can_be_no_cost_is_unknown(text: str) -> None:
    assert picodollars(Decimal(text)) is None


_RATES = st.decimals(0, 1000, places=6) | st.decimals(0, 1000, places=9) | st.decimals(-1, 1e15, places=3)
_SOME = st.integers(0, 10**6)


@given(
    rates=st.builds(Rates, **dict.fromkeys(WholeRates._fields, st.none() | _RATES) | {"request": _RATES}),
    usage=st.builds(
        Usage,
        input_tokens=_SOME,
        output_tokens=_SOME,
        cached_tokens=_SOME,
        cache_write_tokens=_SOME,
        reasoning_tokens=_SOME,
        cache_write_1h_tokens=_SOME,
        audio_input_tokens=_SOME,
        audio_output_tokens=_SOME,
        web_searches=_SOME,
    ),
)
def test_a_cost_in_whole_numbers_is_that_in_decimals(rates: Rates, usage: Usage) -> None:
    assert whole(usage, rates) == picodollars(priced(usage, rates))


def test_what_one_costs_is_whole_to_the_millionth_of_a_dollar_for_a_million_and_not_below() -> None:
    rates = Rates.of(Decimal("0.000001"), Decimal(15), cached=None, write=None, write_1h=None)

    assert rates.whole is not None
    assert (rates.whole.input, rates.whole.output, rates.whole.search) == (1, 15_000_000, None)
    assert rates.times(Decimal("0.5")).whole is None


@pytest.mark.parametrize("rate", ["1e999999", "1e300000", "1e19", "NaN"])
def test_a_rate_that_no_call_costs_is_no_whole_number_and_holds_nobody_up(rate: str) -> None:
    assert Rates.of(Decimal(rate), Decimal(1), cached=None, write=None, write_1h=None).whole is None
