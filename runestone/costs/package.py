"""The prices of the package ``genai-prices`` as rates. Its data is in it; nothing is fetched.

Finding a model there takes a tenth of a millisecond, so what was found is kept for the minute: prices change on the minute (some with the
hour of the day). No other function of the package is called, as its own caches have no bound.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from attrs import field, frozen

from runestone.costs.rates import Rates
from runestone.domain.catalogue import CATALOGUE
from runestone.domain.chat import Region, Tier, Usage

Bands = tuple[tuple[int, Rates], ...]  # rates by the input tokens that a request must have more than, the most first
_Key = tuple[str, str, Tier, Region]
_US_FACTOR: Final = Decimal("1.1")  # Anthropic's, for every token of what it keeps in the United States
_READ: Final = {
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_5m_mtok",
    "cache_write_1h_mtok",
    "input_audio_mtok",
    "output_audio_mtok",
    "output_reasoning_mtok",
    "web_searches_kcount",
    "requests_kcount",
}
_PASSED_OVER: Final = {"storage_searches_kcount", "cache_audio_read_mtok"}  # for what the chat APIs do not do


@frozen(eq=False)
class PackagePrices:
    """What the package says, kept for a minute and for ``most`` models. For all threads: no step of one can break that of another."""

    most: int = 1024
    _kept: dict[_Key, tuple[int, Bands | None]] = field(factory=dict)

    def rates(self, usage: Usage, kind: str, model: str, at: float) -> Rates | None:
        """The rates of ``usage`` at a provider of ``kind`` at the time ``at`` (epoch seconds); ``None``: no price is known.

        The first call loads the package, which takes a fifth of a second: not for the event loop.
        """
        key, minute = (kind, model, usage.service_tier, usage.region), int(at // 60)
        kept = self._kept.get(key)
        if kept is None or kept[0] != minute:
            kept = self._keep(key, minute)
        if (bands := kept[1]) is not None:
            for start, rates in bands:
                if usage.input_tokens > start:
                    return rates
        return None

    def has(self, usage: Usage, kind: str, model: str, at: float) -> bool:
        """Whether :meth:`rates` need not look anything up."""
        kept = self._kept.get((kind, model, usage.service_tier, usage.region))
        return kept is not None and kept[0] == int(at // 60)

    def _keep(self, key: _Key, minute: int) -> tuple[int, Bands | None]:
        found = minute, _looked_up(*key, datetime.fromtimestamp(minute * 60, UTC))
        self._kept.pop(key, None)
        for oldest in [*self._kept][: max(0, len(self._kept) - self.most + 1)]:
            self._kept.pop(oldest, None)  # another thread may have been faster
        self._kept[key] = found
        return found


def load() -> None:
    """Load the package and its data; only the first time takes long."""
    importlib.import_module("genai_prices.data")


def _looked_up(kind: str, model: str, tier: Tier, region: Region, moment: datetime) -> Bands | None:
    from genai_prices import data_snapshot, types  # noqa: PLC0415 - slow to load: not before somebody needs it

    providers = data_snapshot.get_snapshot().providers
    provider = data_snapshot.find_provider_by_id(providers, CATALOGUE[kind].prices or kind)
    found = None if provider is None else provider.find_model(model, all_providers=providers)
    if provider is None or found is None or not found.prices:
        return None
    context: dict[str, str] | None = None
    if tier != "standard":
        context = {"service_tier": tier, "processing": tier, "speed": tier}
        variants = found.price_variants if any(found is own for own in provider.models) else None
        if not any(_holds(variant, context, moment) for variant in variants or ()):
            return None
    if region != "any" and (region != "us" or kind != "anthropic"):
        return None
    prices = found.get_prices(moment, context)
    told = {name: value for name, value in vars(prices).items() if value is not None}
    if told.keys() - _READ - _PASSED_OVER:
        return None  # it bills something that no usage tells, so any sum would be too small
    starts = {step.start for value in told.values() if isinstance(value, types.TieredPrices) for step in value.tiers}
    return tuple(
        (start, rates if region == "any" else rates.times(_US_FACTOR))
        for start in (*sorted(starts, reverse=True), -1)
        for rates in (_rates({name: _above(start, value) for name, value in told.items()}),)
    )


def _holds(variant: Any, context: Mapping[str, str], moment: datetime) -> bool:
    """Whether ``variant`` is the price of one of the words in ``context``, at that moment."""
    constraint = variant.constraint
    return all(context.get(name) == word for name, word in variant.when.items()) and (
        constraint is None or constraint.active(moment)
    )


def _above(start: int, value: Any) -> Decimal:
    """The price of a request with more input tokens than ``start``."""
    if isinstance(value, Decimal):
        return value
    base: Decimal = value.base
    return next((tier.price for tier in reversed(value.tiers) if tier.start <= start), base)


def _rates(told: dict[str, Decimal]) -> Rates:
    return Rates.of(
        told.get("input_mtok"),
        told.get("output_mtok"),
        cached=told.get("cache_read_mtok"),
        write=told.get("cache_write_5m_mtok", told.get("cache_write_mtok")),
        write_1h=told.get("cache_write_1h_mtok"),
        reasoning=told.get("output_reasoning_mtok"),
        audio_input=told.get("input_audio_mtok"),
        audio_output=told.get("output_audio_mtok"),
        search_per_thousand=told.get("web_searches_kcount"),
        request_per_thousand=told.get("requests_kcount"),
    )
