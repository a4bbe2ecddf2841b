"""What tokens cost: the operator's own prices first, then those of the package ``genai-prices``. A price that is not known is ``None``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from runestone.config.settings import Price
from runestone.domain.catalogue import CATALOGUE
from runestone.domain.chat import Usage
from runestone.domain.routing import Choice

_MILLION: Final = Decimal(1_000_000)


def cost(usage: Usage, kind: str, model: str, own: Mapping[str, Price]) -> Decimal | None:
    """US dollars for ``usage`` of ``model`` at a provider of ``kind``, exactly. ``own`` are the operator's prices, by model.

    The first call loads the package, which takes a fifth of a second: not for the event loop.
    """
    if (price := own.get(model)) is not None:
        return _own_cost(usage, price)
    import genai_prices  # noqa: PLC0415 - slow to load, and for who asks alone

    counted = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        return genai_prices.calc_price(counted, model, provider_id=CATALOGUE[kind].prices or kind).total_price
    except LookupError:
        return None


def quotation(usage: Usage, choices: Iterable[tuple[Choice, str]], own: Mapping[str, Price]) -> dict[str, float | None]:
    """What ``usage`` would cost at each choice, by provider: good for ranking, no more. Slow as :func:`cost` is."""
    costs = {choice.provider: cost(usage, kind, choice.model, own) for choice, kind in choices}
    return {name: None if dollars is None else float(dollars) for name, dollars in costs.items()}


def _own_cost(usage: Usage, price: Price) -> Decimal:
    """``input_tokens`` holds the cached ones too, each of which has its own price, or the input's."""
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    cached, write = price.cached_input_per_million_usd, price.cache_write_per_million_usd
    total = plain * price.input_per_million_usd + usage.output_tokens * price.output_per_million_usd
    total += usage.cached_tokens * (price.input_per_million_usd if cached is None else cached)
    total += usage.cache_write_tokens * (price.input_per_million_usd if write is None else write)
    return total / _MILLION
