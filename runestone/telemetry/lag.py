"""How late the event loop is, as a histogram: the monitor's looks, each counted."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from supervisors import LoopLag


def _nobody(_: float) -> None:
    """Until there is somebody to tell."""


@define(slots=True, eq=False)
class CountedLag(LoopLag):
    """A :class:`~supervisors.LoopLag` that tells ``told`` of every look."""

    told: Callable[[float], None] = _nobody

    def observe(self, seconds: float) -> None:
        """Note one look."""
        LoopLag.observe(self, seconds)
        self.told(seconds)
