"""aioprometheus' collectors with what they lack: escaped labels, bound children, a histogram that does not scan, a cap on series."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping
from typing import Any, Final

from aioprometheus.collectors import Collector, Counter, Gauge, Histogram, Registry
from aioprometheus.formats.text import TextFormatter

_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
SERIES_CAP: Final = 2000  # of one metric

Labels = Mapping[str, str]


class EscapingFormatter(TextFormatter):
    """The text format, with label values escaped: the library writes them as they come."""

    def _format_line(self, name: str, labels: Any, value: Any, const_labels: Any) -> str:
        merged = self._unify_labels(labels, const_labels, ordered=True)
        body = ",".join(f'{key}="{str(v).translate(_ESCAPES)}"' for key, v in merged.items())
        return f"{name}{{{body}}} {value}" if body else f"{name} {value}"


class BoundCounter:
    """One series of a counter or gauge, found once."""

    __slots__ = ("_key", "_store")

    def __init__(self, collector: Collector, labels: Labels) -> None:
        self._key = collector.values.__keytransform__(dict(labels))  # type: ignore[no-untyped-call] # nor has it
        self._store = collector.values.store
        self._store.setdefault(self._key, 0)

    def inc(self, amount: float = 1) -> None:
        """Count."""
        self._store[self._key] += amount

    def set(self, value: float) -> None:
        """Set a gauge."""
        self._store[self._key] = float(value)  # the text format knows no True

    @property
    def value(self) -> float:
        """What has been counted, or was set last."""
        return float(self._store[self._key])


class Buckets:
    """One series of a histogram. It has the attributes that aioprometheus renders."""

    __slots__ = ("_bounds", "_counts", "observations", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = [*bounds, float("inf")]
        self._counts = [0] * len(self._bounds)
        self.sum = 0.0
        self.observations = 0

    def observe(self, value: float) -> None:
        """Count ``value``."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self.sum += value
        self.observations += 1

    @property
    def value(self) -> float:
        """How many observations there were."""
        return self.observations

    @property
    def buckets(self) -> dict[float, int]:
        """Cumulative counts by upper bound."""
        return dict(zip(self._bounds, itertools.accumulate(self._counts), strict=True))


class Family:
    """A metric and its series. Label values come from configuration; at the cap, what is new goes uncounted."""

    def __init__(self, collector: Collector, bounds: tuple[float, ...] | None = None) -> None:
        self._collector = collector
        self._bounds = bounds
        self._bound: dict[tuple[str, ...], Any] = {}
        self._labels: dict[tuple[str, ...], Labels] = {}

    @classmethod
    def counter(cls, registry: Registry, name: str, text: str) -> Family:
        """A counter."""
        return cls(Counter(name, text, registry=registry))

    @classmethod
    def gauge(cls, registry: Registry, name: str, text: str) -> Family:
        """A gauge."""
        return cls(Gauge(name, text, registry=registry))

    @classmethod
    def histogram(cls, registry: Registry, name: str, text: str, bounds: tuple[float, ...]) -> Family:
        """A histogram."""
        return cls(Histogram(name, text, registry=registry, buckets=list(bounds)), bounds)

    def at(self, **labels: str) -> Any:
        """The series with these labels."""
        key = tuple(labels.values())
        if (series := self._bound.get(key)) is None:
            series = self._bind(labels)
            if len(self._bound) < SERIES_CAP:
                self._bound[key] = series
                self._labels[key] = labels
        return series

    def select(self, **wanted: str) -> list[tuple[Labels, Any]]:
        """The series that have these label values, with all their labels."""
        return [
            (labels, self._bound[key])
            for key, labels in self._labels.items()
            if all(labels.get(label) == value for label, value in wanted.items())
        ]

    def drop(self, label: str, value: str) -> None:
        """Remove the series whose ``label`` has that value."""
        for key in [key for key, labels in self._labels.items() if labels.get(label) == value]:
            self._collector.values.pop(self._labels.pop(key), None)
            del self._bound[key]

    def _bind(self, labels: dict[str, str]) -> Any:
        if self._bounds is None:
            return BoundCounter(self._collector, labels) if len(self._bound) < SERIES_CAP else _Void()
        buckets = Buckets(self._bounds)
        if len(self._bound) < SERIES_CAP:
            self._collector.set_value(labels, buckets)
        return buckets

    def values(self) -> dict[str, float]:
        """All series as plain numbers, by their labels (histograms: their counts)."""
        return {",".join(map(str, key)): s.value for key, s in self._bound.items()}


class _Void:
    def inc(self, amount: float = 1) -> None:
        """Nothing is counted."""

    def set(self, value: float) -> None:
        """Nothing is set."""
