"""What one token of each sort costs, and what many cost together: pure, and exact to the last digit."""

from __future__ import annotations

from decimal import Decimal

from attrs import evolve, frozen

from runestone.config.settings import Price
from runestone.domain.chat import Usage

_ZERO = Decimal(0)
_THOUSANDS_IN_A_MILLION = 1000


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
    inputs, outputs = usage.input_tokens, usage.output_tokens
    parts = [(usage.web_searches, rates.search)]
    if usage.cached_tokens or usage.cache_write_tokens or usage.audio_input_tokens:
        cached = min(usage.cached_tokens, inputs)
        written = min(usage.cache_write_tokens, inputs - cached)
        hours = min(usage.cache_write_1h_tokens, written)
        audio = min(usage.audio_input_tokens, inputs - cached - written)
        inputs -= cached + written + audio
        parts += (
            (cached, rates.cached),
            (written - hours, rates.write),
            (hours, rates.write_1h),
            (audio, rates.audio_input),
        )
    if usage.reasoning_tokens or usage.audio_output_tokens:
        audio = min(usage.audio_output_tokens, outputs)
        thought = min(usage.reasoning_tokens, outputs - audio)
        outputs -= audio + thought
        parts += (audio, rates.audio_output), (thought, rates.reasoning)
    parts += (inputs, rates.input), (outputs, rates.output)
    total = rates.request
    for count, rate in parts:
        if count:
            if rate is None:
                return None
            total += count * rate
    return total.scaleb(-6)


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
