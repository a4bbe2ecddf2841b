"""aioprometheus' collectors with what they lack: escaped labels, bound children, a histogram that does not scan, a cap on series."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import orjson
from aioprometheus.collectors import Collector, Counter, Gauge, Histogram, Registry
from aioprometheus.formats.text import TextFormatter
from aioprometheus.metricdict import MetricDict

_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
SERIES_CAP: Final = 2000  # of one metric
EXPECTED_CAP: Final = SERIES_CAP // 2  # of those that wait for something to happen: what does happen must find room
_PART_SERIES: Final = 50  # that are rendered in one go

Labels = Mapping[str, str]
Heads = tuple[str, ...]  # what the lines of one series begin with, up to the number


class EscapingFormatter(TextFormatter):
    """The text format with label values escaped, which the library writes as they come; a series' labels are written out once for ever."""

    def __init__(self) -> None:
        super().__init__()
        self._heads: dict[str, dict[Any, Heads]] = {}  # by metric, and by the library's key of the series

    def marshall(self, registry: Registry) -> bytes:
        """All of it."""
        return "".join(self.parts(registry)).encode()

    def parts(self, registry: Registry) -> Iterator[str]:
        """All of it in pieces, between which the caller may pause: each series is as of one moment."""
        for collector in sorted(registry.get_all(), key=lambda one: one.name):
            name, store = collector.name, collector.values.store
            heads = self._heads.setdefault(name, {})
            if len(heads) > len(store):
                heads = self._heads[name] = {key: head for key, head in heads.items() if key in store}
            yield f"# HELP {name} {collector.doc}\n# TYPE {name} {collector.kind.name}\n"
            series = list(store.items())
            for start in range(0, len(series), _PART_SERIES):
                yield "".join(_lines(name, heads, series[start : start + _PART_SERIES]))


def _lines(name: str, heads: dict[Any, Heads], series: Iterable[tuple[Any, Any]]) -> Iterator[str]:
    for key, value in series:
        if (head := heads.get(key)) is None:
            head = heads[key] = _heads(name, key, value)
        if isinstance(value, Buckets):
            yield from map("{}{}\n".format, head, value.numbers())
        else:
            yield f"{head[0]}{value}\n"


def _heads(name: str, key: Any, value: object) -> Heads:
    labels = {} if key == MetricDict.EMPTY_KEY else orjson.loads(key)
    if not isinstance(value, Buckets):
        return (f"{name}{_written(labels)} ",)
    bounds = [*map(str, value.bounds), "+Inf"]
    buckets = [f"{name}_bucket{_written({**labels, 'le': bound})} " for bound in bounds]
    return (*buckets, f"{name}_sum{_written(labels)} ", f"{name}_count{_written(labels)} ")


def _written(labels: Labels) -> str:
    pairs = [f'{label}="{str(text).translate(_ESCAPES)}"' for label, text in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""


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

    __slots__ = ("_counts", "bounds", "observations", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.observations = 0

    def observe(self, value: float) -> None:
        """Count ``value``."""
        self._counts[_bucket_of(self.bounds, value)] += 1
        self.sum += value
        self.observations += 1

    @property
    def value(self) -> float:
        """How many observations there were."""
        return self.observations

    @property
    def buckets(self) -> dict[float, int]:
        """Cumulative counts by upper bound."""
        return dict(zip((*self.bounds, float("inf")), itertools.accumulate(self._counts), strict=True))

    def numbers(self) -> tuple[float, ...]:
        """What is rendered: cumulative counts in the order of the bounds, the sum, and how many there were."""
        return (*itertools.accumulate(self._counts), self.sum, self.observations)


_bucket_of = bisect.bisect_left


class Family:
    """A metric and its series. Label values come from configuration; at the cap, what is new goes uncounted, and that is counted."""

    def __init__(self, collector: Collector, bounds: tuple[float, ...] | None = None) -> None:
        self.name: str = collector.name
        self.turned_away = 0  # how often a series found no room
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
            if len(self._bound) >= SERIES_CAP:
                self.turned_away += 1
                return VOID
            series = self._bound[key] = self._bind(labels)
            self._labels[key] = labels
        return series

    def expect(self, **labels: str) -> None:
        """Start the series with these labels at zero, so that a rate sees the first of what it counts. As long as there is much room."""
        if len(self._bound) < EXPECTED_CAP:
            self.at(**labels)

    def select(self, **wanted: str) -> list[tuple[Labels, Any]]:
        """The series that have these label values, with all their labels."""
        return [
            (labels, self._bound[key])
            for key, labels in self._labels.items()
            if all(labels.get(label) == value for label, value in wanted.items())
        ]

    def sums(self, *by: str) -> dict[tuple[str, ...], float]:
        """The sums over all series that have the same values of the labels ``by``."""
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for key, labels in self._labels.items():
            sums[tuple(labels[label] for label in by)] += self._bound[key].value
        return sums

    def drop(self, label: str, value: str) -> None:
        """Remove the series whose ``label`` has that value."""
        self.prune(lambda labels: labels.get(label) != value)

    def prune(self, keep: Callable[[Labels], bool]) -> None:
        """Remove the series whose labels are not to be kept."""
        for key in [key for key, labels in self._labels.items() if not keep(labels)]:
            self._collector.values.pop(self._labels.pop(key), None)
            del self._bound[key]

    def values(self) -> dict[str, float]:
        """All series as plain numbers, by their labels (histograms: their counts)."""
        return {",".join(map(str, key)): s.value for key, s in self._bound.items()}

    def _bind(self, labels: dict[str, str]) -> Any:
        if self._bounds is None:
            return BoundCounter(self._collector, labels)
        buckets = Buckets(self._bounds)
        self._collector.set_value(labels, buckets)
        return buckets


class _Void:
    """A series that there is no room for."""

    value = 0.0
    observations = 0
    sum = 0.0

    def inc(self, amount: float = 1) -> None:
        """Nothing is counted."""

    def set(self, value: float) -> None:
        """Nothing is set."""

    def observe(self, value: float) -> None:
        """Nothing is counted."""


VOID: Final = _Void()


def about_provider(text: str, provider: str) -> str:
    """Of ``text`` in the text format the series that have ``provider`` as a label, on either side of a failover too."""
    marks = tuple(f'{label}="{provider.translate(_ESCAPES)}"' for label in ("provider", "from", "to"))
    found, head = list[str](), list[str]()
    for line in text.splitlines(keepends=True):
        if line.startswith("#"):
            head = [*head, line] if head and line.startswith("# TYPE") else [line]
        elif any(mark in line for mark in marks):
            found += [*head, line]
            head = []
    return "".join(found)
