"""What the usage objects of all wires have in common: counts, and words that decide on a price."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from runestone.domain.catalogue import Charge, Path
from runestone.domain.chat import Region, Tier

_MOST: Final = 2**53  # what is larger is no count, and sums of it are no JSON
_TIERS: Final[dict[object, Tier]] = {
    None: "standard",
    "": "standard",
    "auto": "standard",
    "default": "standard",
    "standard": "standard",
    "on_demand": "standard",
    "priority": "priority",
    "fast": "fast",
    "flex": "flex",
    "scale": "scale",
    "batch": "batch",
}
_REGIONS: Final[dict[object, Region]] = {None: "any", "": "any", "global": "any", "not_available": "any", "us": "us"}


def count_at(value: object, *path: str) -> int:
    """The number at ``path`` in a usage object; 0 where there is none, or something else than a count."""
    value = _at(value, path)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST else 0


def charge_at(usage: object, charge: Charge) -> int | None:
    """What the provider says that the call costs, in whole picodollars; ``None`` where it does not say, or says what is no price."""
    told = _picodollars(_at(usage, charge.path), charge)
    if told is None or charge.own_key is None or _at(usage, (charge.own_key,)) is not True:
        return told
    beside = _picodollars(_at(usage, charge.beside), charge)
    return None if beside is None else told + beside


def _picodollars(told: object, charge: Charge) -> int | None:
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    amount = Decimal(str(told))  # the digits that were sent
    if not amount.is_finite() or not 0 <= amount <= _MOST:
        return None
    return int((amount * charge.picodollars).to_integral_value(ROUND_HALF_EVEN))


def _at(value: object, path: Path) -> object:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def tier_of(told: object) -> Tier:
    """The tier by the vendor's word for it; no word is the standard one."""
    return _TIERS.get(told, "other") if told is None or isinstance(told, str) else "standard"


def region_of(told: object) -> Region:
    """The region by the vendor's word for it; no word is any."""
    return _REGIONS.get(told, "other") if told is None or isinstance(told, str) else "any"
