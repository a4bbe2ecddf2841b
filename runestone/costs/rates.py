"""What one token of each sort costs, and what many cost together: pure, and exact to the last digit."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, NamedTuple

from attrs import evolve, field, frozen

from runestone.config.settings import Price
from runestone.domain.chat import Usage

PICODOLLARS: Final = 10**12  # of one dollar
MOST_PICODOLLARS: Final = 2**63 - 1  # that the ledger keeps of one call
_ZERO = Decimal(0)
_THOUSANDS_IN_A_MILLION = 1000
_MILLION: Final = 10**6
_MOST_DIGITS: Final = 19  # of a rate before its point: to make a number of more takes long, and no cost has so many


class WholeRates(NamedTuple):
    """What one of each costs in picodollars, as :class:`Rates` name them: to count in whole numbers takes half of the time."""

    input: int | None
    output: int | None
    cached: int | None
    write: int | None
    write_1h: int | None
    reasoning: int | None
    audio_input: int | None
    audio_output: int | None
    search: int | None
    request: int


@frozen(kw_only=True)
class Rates:
    """US dollars for a million of each; ``None``: not known. ``input`` and ``output`` are for what is nothing else here."""

    input: Decimal | None
    output: Decimal | None
    cached: Decimal | None
    write: Decimal | None
    write_1h: Decimal | None
    reasoning: Decimal | None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    search: Decimal | None = None
    request: Decimal = _ZERO  # what a call costs before its first token
    #: The same in whole picodollars; ``None``: one of them is none.
    whole: WholeRates | None = field(init=False, eq=False, repr=False)

    @whole.default
    def _in_picodollars(self) -> WholeRates | None:
        rates = {name: rate for name in WholeRates._fields if (rate := getattr(self, name)) is not None}
        if not all(rate.is_finite() and rate.adjusted() < _MOST_DIGITS for rate in rates.values()):
            return None
        scaled = {name: rate * _MILLION for name, rate in rates.items()}
        found = {name: int(rate) for name, rate in scaled.items()}
        return WholeRates._make(map(found.get, WholeRates._fields)) if found == scaled else None

    @classmethod
    def of(
        cls,
        input: Decimal | None,  # noqa: A002 - as the field
        output: Decimal | None,
        *,
        cached: Decimal | None,
        write: Decimal | None,
        write_1h: Decimal | None,
        reasoning: Decimal | None = None,
        audio_input: Decimal | None = None,
        audio_output: Decimal | None = None,
        search_per_thousand: Decimal | None = None,
        request_per_thousand: Decimal | None = None,
    ) -> Rates:
        """Rates with what follows from others: a cached token costs what input does where nothing else is said, a thought what output does.

        An hour in the cache costs more than five minutes: where only the price of these is known, that of the hour is not.
        """
        return cls(
            input=input,
            output=output,
            cached=input if cached is None else cached,
            write=input if write is None else write,
            write_1h=input if write is None and write_1h is None else write_1h,
            reasoning=output if reasoning is None else reasoning,
            audio_input=audio_input,
            audio_output=audio_output,
            search=None if search_per_thousand is None else search_per_thousand * _THOUSANDS_IN_A_MILLION,
            request=_ZERO if request_per_thousand is None else request_per_thousand * _THOUSANDS_IN_A_MILLION,
        )

    def times(self, factor: Decimal) -> Rates:
        """The same with every token ``factor`` times as dear."""

        def scaled(rate: Decimal | None) -> Decimal | None:
            return None if rate is None else rate * factor

        return evolve(
            self,
            input=scaled(self.input),
            output=scaled(self.output),
            cached=scaled(self.cached),
            write=scaled(self.write),
            write_1h=scaled(self.write_1h),
            reasoning=scaled(self.reasoning),
            audio_input=scaled(self.audio_input),
            audio_output=scaled(self.audio_output),
        )


def priced(usage: Usage, rates: Rates) -> Decimal | None:
    """US dollars for ``usage``, ``None`` where it holds something whose price is not known. Tier and region are the rates' own.

    Parts that are larger than their whole are cut to it: nobody is billed less than nothing.
    """
    total: Decimal | None = _total(usage, rates)
    return None if total is None else total.scaleb(-6)


def whole(usage: Usage, rates: Rates) -> int | None:
    """:func:`priced` in whole picodollars, the nearest; ``None`` also for what is no cost: negative, or beyond 64 bits."""
    if rates.whole is None:
        return picodollars(priced(usage, rates))
    total: int | None = _total(usage, rates.whole)
    return total if total is not None and 0 <= total <= MOST_PICODOLLARS else None


def picodollars(dollars: Decimal | None) -> int | None:
    """``dollars`` in whole picodollars, the nearest; ``None`` for what is no cost: unknown, negative, or beyond 64 bits."""
    if dollars is None or not dollars.is_finite():
        return None
    nearest = int((dollars * PICODOLLARS).to_integral_value(ROUND_HALF_EVEN))
    return nearest if 0 <= nearest <= MOST_PICODOLLARS else None


def _total(usage: Usage, rates: Any) -> Any:
    """What all of ``usage`` costs, in what ``rates`` are in."""
    inputs, outputs = usage.input_tokens, usage.output_tokens
    total = rates.request
    if usage.cached_tokens or usage.cache_write_tokens or usage.audio_input_tokens:
        cached = min(usage.cached_tokens, inputs)
        written = min(usage.cache_write_tokens, inputs - cached)
        hours = min(usage.cache_write_1h_tokens, written)
        audio = min(usage.audio_input_tokens, inputs - cached - written)
        inputs -= cached + written + audio
        parts = (
            (cached, rates.cached),
            (written - hours, rates.write),
            (hours, rates.write_1h),
            (audio, rates.audio_input),
        )
        if (total := _and(total, parts)) is None:
            return None
    if usage.reasoning_tokens or usage.audio_output_tokens or usage.web_searches:
        audio = min(usage.audio_output_tokens, outputs)
        thought = min(usage.reasoning_tokens, outputs - audio)
        outputs -= audio + thought
        rest = ((audio, rates.audio_output), (thought, rates.reasoning), (usage.web_searches, rates.search))
        if (total := _and(total, rest)) is None:
            return None
    return _and(total, ((inputs, rates.input), (outputs, rates.output)))


def _and(total: Any, parts: tuple[tuple[int, Any], ...]) -> Any:
    """``total`` and what ``parts`` cost; ``None`` where one of them has no price."""
    for count, rate in parts:
        if count:
            if rate is None:
                return None
            total += count * rate
    return total


def own_rates(price: Price, usage: Usage) -> Rates | None:
    """The operator's rates for the tier and the region of ``usage``; ``None`` where ``price`` has no factor for one of them."""
    rates = Rates.of(
        price.input_per_million_usd,
        price.output_per_million_usd,
        cached=price.cached_input_per_million_usd,
        write=price.cache_write_per_million_usd,
        write_1h=price.cache_write_1h_per_million_usd,
        audio_input=price.audio_input_per_million_usd,
        audio_output=price.audio_output_per_million_usd,
        search_per_thousand=price.web_search_per_thousand_usd,
    )
    for word, plain in ((usage.service_tier, "standard"), (usage.region, "any")):
        if word != plain:
            factor = price.factors.get(word)
            if factor is None:
                return None
            rates = rates.times(factor)
    return rates
