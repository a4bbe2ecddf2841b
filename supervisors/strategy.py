"""Which siblings a restart takes along. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar, assert_never

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
T = TypeVar("T")


def affected(strategy: Strategy, children: Sequence[T], failed: T) -> list[T]:
    """The children that stop and start with ``failed``, itself included, in start order.

    >>> affected("rest_for_one", ["a", "b", "c"], "b")
    ['b', 'c']
    """
    match strategy:
        case "one_for_one":
            return [failed]
        case "one_for_all":
            return list(children)
        case "rest_for_one":
            return list(children[children.index(failed) :])
        case _:
            assert_never(strategy)
