"""The series that one kind of end counts in, found once: the way of each request passes here, so it looks nothing up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from runestone.telemetry.events import AttemptFinished, RequestFinished
from runestone.telemetry.outcomes import BLAMELESS, CLASSES, OK, OTHER, attempt_class
from runestone.telemetry.series import VOID
from runestone.telemetry.windows import Window

if TYPE_CHECKING:
    from runestone.telemetry.families import Families

AttemptLabels = tuple[str, str, bool, str]  # provider, model, whether streamed, outcome


@define(slots=True, eq=False)
class ProviderWindows:
    """What a provider has done of late: whole answers, failures with the time that they took, first contents of streams."""

    answers: Window = field(factory=Window)
    failures: Window = field(factory=Window)
    first_contents: Window = field(factory=Window)


@frozen
class Booked:
    """Dollars, and calls whose price is not known."""

    cost: Any
    unknown: Any


class RequestSeries:
    """For one route, status and outcome."""

    __slots__ = ("_content", "_count", "_overhead", "_seconds", "_window")

    def __init__(self, *, count: Any, seconds: Any, overhead: Any, window: Window, content: Window) -> None:
        self._count = count
        self._seconds = seconds
        self._overhead = overhead
        self._window = window
        self._content = content

    def count(self, event: RequestFinished, now: float) -> None:
        """Count one request."""
        seconds = event.duration_seconds
        self._count.inc()
        self._seconds.observe(seconds)
        if event.attempts:
            own = seconds - event.upstream_seconds
            if own < 0.0:  # noqa: PLR1730 - two clocks, which may differ by a little; a third of what max() costs
                own = 0.0
            self._overhead.observe(own)
        self._window.observe(now, seconds)
        if event.stream and event.first_content_seconds is not None:
            self._content.observe(now, event.first_content_seconds)


class AttemptSeries:
    """For one provider, model and outcome, streamed or not."""

    __slots__ = (
        "_attempts",
        "_cache_write",
        "_cached",
        "_chunk",
        "_content",
        "_content_window",
        "_failures",
        "_input",
        "_output",
        "_reasoning",
        "_seconds",
        "_window",
    )

    def __init__(self, families: Families, labels: AttemptLabels, windows: ProviderWindows | None) -> None:
        provider, model, stream, outcome = labels
        sent = outcome != "unsupported"  # a provider that cannot serve a field of the request is not called
        by = {"provider": provider, "model": model}
        self._attempts = families.attempts.at(**by, outcome=attempt_class(outcome)) if sent else VOID
        self._failures = families.failures.at(provider=provider, kind=outcome) if outcome in CLASSES else None
        self._seconds = families.attempt_seconds.at(**by, stream="true" if stream else "false") if sent else VOID
        self._content = families.first_chunk_seconds.at(**by) if stream else None
        self._chunk = families.chunk_seconds.at(**by) if stream else VOID
        self._input = families.tokens.at(**by, type="input")
        self._output = families.tokens.at(**by, type="output")
        self._cached = families.tokens.at(**by, type="cached_input")
        self._cache_write = families.tokens.at(**by, type="cache_write")
        self._reasoning = families.tokens.at(**by, type="reasoning")
        self._content_window = None if windows is None else windows.first_contents
        self._window: Window | None = None
        if windows is not None and outcome not in BLAMELESS and outcome != OTHER:
            self._window = windows.answers if outcome == OK else windows.failures

    def count(self, event: AttemptFinished, now: float) -> None:
        """Count one call."""
        self._attempts.inc()
        if self._failures is not None:
            self._failures.inc()
        self._seconds.observe(event.duration_seconds)
        if self._window is not None:
            self._window.observe(now, event.duration_seconds)
        if self._content is not None and (first := event.first_content_seconds) is not None:
            self._content.observe(first)
            if self._content_window is not None:
                self._content_window.observe(now, first)
            if (between := event.chunk_seconds) is not None:
                self._chunk.observe(between)
        if (usage := event.usage) is not None:
            self._input.inc(usage.input_tokens)
            self._output.inc(usage.output_tokens)
            if usage.cached_tokens:
                self._cached.inc(usage.cached_tokens)
            if usage.cache_write_tokens:
                self._cache_write.inc(usage.cache_write_tokens)
            if usage.reasoning_tokens:
                self._reasoning.inc(usage.reasoning_tokens)
