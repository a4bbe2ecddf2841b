"""What tokens cost: the operator's own prices first, then those of the package ``genai-prices``. A price that is not known is ``None``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from runestone.config.settings import Price
from runestone.costs.correction import UNCORRECTED, Correction
from runestone.costs.package import PackagePrices, load
from runestone.costs.rates import Rates, own_rates, priced, whole
from runestone.domain.chat import Region, Tier, Usage
from runestone.domain.routing import Choice

__all__ = ["booked", "cost", "is_quick", "load", "quotation"]

_PACKAGE: Final = PackagePrices()
_OWN: Final[dict[tuple[str, Tier, Region], tuple[Price, Rates | None]]] = {}
_MOST_OWN: Final = 1024


def cost(
    usage: Usage, kind: str, model: str, own: Mapping[str, Price], *, at_epoch: float | None = None
) -> Decimal | None:
    """US dollars for ``usage`` of ``model`` at a provider of ``kind``, exactly; ``None`` where any part of it has no price.

    ``own`` are the operator's prices, by model. ``at_epoch`` is when the call was made, as prices change; ``None``: now. From any
    thread. The first call for a model in a minute takes a tenth of a millisecond, the first of all loads the package unless somebody has.
    """
    rates = _rates(usage, kind, model, own, at_epoch)
    return None if rates is None else priced(usage, rates)


def booked(usage: Usage, kind: str, model: str, own: Mapping[str, Price], at_epoch: float | None = None) -> int | None:
    """:func:`cost` in whole picodollars, the nearest."""
    rates = _rates(usage, kind, model, own, at_epoch)
    return None if rates is None else whole(usage, rates)


def is_quick(usage: Usage, choices: Iterable[tuple[Choice, str]], own: Mapping[str, Price]) -> bool:
    """Whether :func:`quotation` takes microseconds, so that the event loop may do it."""
    now = time.time()
    return all(choice.model in own or _PACKAGE.has(usage, kind, choice.model, now) for choice, kind in choices)


def quotation(
    usage: Usage,
    choices: Iterable[tuple[Choice, str]],
    own: Mapping[str, Price],
    correction: Correction = UNCORRECTED,
) -> dict[str, float | None]:
    """What the estimate ``usage`` would cost at each choice, by provider: good for ranking, no more. See :func:`is_quick`."""
    costs = {
        choice.provider: cost(correction.corrected(usage, choice.model), kind, choice.model, own)
        for choice, kind in choices
    }
    return {name: None if dollars is None else float(dollars) for name, dollars in costs.items()}


def _rates(usage: Usage, kind: str, model: str, own: Mapping[str, Price], at_epoch: float | None) -> Rates | None:
    if (price := own.get(model)) is not None:
        return _own_rates(price, usage, model)
    return _PACKAGE.rates(usage, kind, model, time.time() if at_epoch is None else at_epoch)


def _own_rates(price: Price, usage: Usage, model: str) -> Rates | None:
    """Those of ``price``, kept as long as it is the model's."""
    key = model, usage.service_tier, usage.region
    kept = _OWN.get(key)
    if kept is None or kept[0] is not price:
        if len(_OWN) >= _MOST_OWN:
            _OWN.clear()
        kept = _OWN[key] = price, own_rates(price, usage)
    return kept[1]
