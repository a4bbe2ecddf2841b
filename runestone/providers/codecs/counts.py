"""What the usage objects of all wires have in common: counts, and words that decide on a price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST else 0


def tier_of(told: object) -> Tier:
    """The tier by the vendor's word for it; no word is the standard one."""
    return _TIERS.get(told, "other") if told is None or isinstance(told, str) else "standard"


def region_of(told: object) -> Region:
    """The region by the vendor's word for it; no word is any."""
    return _REGIONS.get(told, "other") if told is None or isinstance(told, str) else "any"
