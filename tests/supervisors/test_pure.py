"""The pure parts, against models that are naive."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildCounts,
    ChildInfo,
    ChildSpec,
    Crashed,
    Done,
    ExitReason,
    FailedToStartChild,
    GenServer,
    Ignored,
    Killed,
    MaxChildren,
    NoProc,
    Normal,
    NotFound,
    Registry,
    Running,
    Shutdown,
    StartFailed,
    Stop,
    is_abnormal,
)
from supervisors.ending import interrupt_in, reason_of
from supervisors.restart import Backoff, Intensity, Restart, restarts
from supervisors.results import Restarting
from supervisors.strategy import Strategy, affected

SECONDS = st.floats(min_value=0.0, max_value=100.0, allow_nan=False)


# -- exit reasons


@pytest.mark.parametrize(
    ("reason", "abnormal"),
    [
        (Normal(), False),
        (Shutdown(), False),
        (Shutdown("x"), False),
        (Killed(), True),
        (Crashed(ValueError()), True),
        (NoProc(), True),
    ],
)
def test_abnormal_is_everything_but_normal_and_shutdown(reason: ExitReason, abnormal: bool) -> None:
    assert is_abnormal(reason) is abnormal


@pytest.mark.parametrize("reason", [Normal(), Shutdown(), Shutdown("x"), Killed(), Crashed(ValueError())])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_restarts_is_otps_table(restart: Restart, reason: ExitReason) -> None:
    table = {"permanent": True, "transient": isinstance(reason, Killed | Crashed), "temporary": False}

    assert restarts(restart, reason) is table[restart]


def test_crashed_equals_only_itself_and_reads_as_its_exception() -> None:
    bug = TypeError("text")

    assert Crashed(bug) != Crashed(bug)
    assert str(Crashed(bug)) == "TypeError: text"


def test_group_of_cancellations_is_a_cancellation() -> None:
    group = BaseExceptionGroup("", [asyncio.CancelledError(), BaseExceptionGroup("", [asyncio.CancelledError()])])

    assert reason_of(group) == Killed()


def test_group_with_an_interrupt_is_that_interrupt() -> None:
    interrupt = KeyboardInterrupt()
    reason = reason_of(BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [interrupt])]))

    assert interrupt_in(reason) is interrupt


def test_group_of_errors_is_one_crash_that_keeps_the_group() -> None:
    group = BaseExceptionGroup("", [ValueError(), asyncio.CancelledError()])
    reason = reason_of(group)

    assert isinstance(reason, Crashed)
    assert reason.exception is group
    assert interrupt_in(reason) is None


# -- intensity


class NaiveIntensity:
    """Keeps every entry for ever."""

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self.entries: list[float] = []

    def add(self, now: float) -> bool:
        self.entries.append(now)
        return sum(entry >= now - self.max_seconds for entry in self.entries) <= self.max_restarts


@given(
    max_restarts=st.integers(min_value=0, max_value=5),
    max_seconds=st.floats(min_value=0.001, max_value=50.0),
    gaps=st.lists(SECONDS | st.sampled_from([0.0, 1.0, 5.0]), max_size=30),
)
def test_intensity_is_a_sliding_window_with_an_inclusive_boundary(
    max_restarts: int, max_seconds: float, gaps: list[float]
) -> None:
    window, model = Intensity(max_restarts, max_seconds), NaiveIntensity(max_restarts, max_seconds)
    now = 0.0

    for gap in gaps:
        now += gap
        fine = window.add(now)
        assert fine is model.add(now)
        if not fine:
            break  # the supervisor has given up


@pytest.mark.parametrize(("gap", "fine"), [(4.999, False), (5.0, False), (5.001, True)])
def test_intensity_at_the_very_boundary(gap: float, fine: bool) -> None:
    window = Intensity(1, 5.0)

    assert window.add(100.0)
    assert window.add(100.0 + gap) is fine


def test_intensity_takes_no_more_memory_than_its_budget() -> None:
    window = Intensity(3, 1e9)
    for now in range(1000):
        window.add(float(now))

    assert len(window._at) == 4


@pytest.mark.parametrize(("max_restarts", "max_seconds"), [(-1, 5.0), (1, 0.0), (1, -1.0)])
def test_intensity_refuses_impossible_values(max_restarts: int, max_seconds: float) -> None:
    with pytest.raises(ValueError):
        Intensity(max_restarts, max_seconds)


# -- strategy


@given(
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    children=st.lists(st.integers(), min_size=1, unique=True),
    data=st.data(),
)
def test_affected_are_the_failed_one_all_or_the_rest_in_start_order(
    strategy: Strategy, children: list[int], data: st.DataObject
) -> None:
    failed = data.draw(st.sampled_from(children))
    seen_failed = False
    expected = []
    for child in children:
        seen_failed = seen_failed or child == failed
        if child == failed or strategy == "one_for_all" or (strategy == "rest_for_one" and seen_failed):
            expected.append(child)

    assert affected(strategy, children, failed) == expected


# -- backoff


@given(
    min_seconds=st.floats(min_value=0.001, max_value=10.0),
    more=st.floats(min_value=0.0, max_value=100.0),
    factor=st.floats(min_value=1.0, max_value=10.0),
    jitter=st.floats(min_value=0.0, max_value=1.0),
    failures=st.integers(min_value=1, max_value=20),
    chance=st.floats(min_value=0.0, max_value=1.0),
)
def test_backoff_multiplies_per_failure_adds_its_jitter_and_never_passes_the_maximum(
    min_seconds: float, more: float, factor: float, jitter: float, failures: int, chance: float
) -> None:
    backoff = Backoff(min_seconds=min_seconds, max_seconds=min_seconds + more, factor=factor, jitter=jitter)
    seconds = min_seconds
    for _ in range(failures - 1):
        seconds *= factor
    seconds = min(min_seconds + more, seconds * (1 + jitter * chance))

    assert backoff.delay(failures, chance) == pytest.approx(seconds)


@given(failures=st.integers(min_value=1, max_value=10**9))
def test_backoff_never_overflows(failures: int) -> None:
    assert Backoff(min_seconds=1.0, max_seconds=60.0, factor=1000.0).delay(failures, 1.0) <= 60.0


@given(failures=st.integers(min_value=1, max_value=50), chance=st.floats(min_value=0.0, max_value=1.0))
def test_backoff_without_jitter_is_exact(failures: int, chance: float) -> None:
    backoff = Backoff(min_seconds=0.5, max_seconds=1e9)

    assert backoff.delay(failures, chance) == backoff.delay(failures, 0.0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("min_seconds", -1.0),
        ("max_seconds", 0.5),
        ("factor", 0.5),
        ("jitter", -0.1),
        ("jitter", 1.1),
        ("reset_after_seconds", -1.0),
    ],
)
def test_backoff_refuses_impossible_values_by_name(option: str, value: float) -> None:
    options: dict[str, Any] = {"min_seconds": 1.0, "max_seconds": 10.0, option: value}

    with pytest.raises(ValueError, match=option):
        Backoff(**options)


# -- what a mutant would change


def test_reasons_are_equal_by_what_they_say_but_for_crashes_and_cannot_be_changed() -> None:
    for make in (Normal, Shutdown, lambda: Shutdown("x"), Killed, NoProc):
        assert make() == make()
    assert Shutdown() != Shutdown("x")
    error = ValueError()
    assert Crashed(error) != Crashed(error)
    for reason, name in (
        (Normal(), "x"),
        (Shutdown(), "detail"),
        (Killed(), "x"),
        (Crashed(error), "exception"),
        (NoProc(), "x"),
    ):
        with pytest.raises(AttributeError):
            setattr(reason, name, 1)
    assert (str(Shutdown()), str(Shutdown("drained"))) == ("shutdown", "shutdown: drained")


def test_the_window_forgets_the_oldest_as_soon_as_it_is_too_old() -> None:
    window = Intensity(max_restarts=2, max_seconds=5.0)

    assert [window.add(now) for now in (0.0, 4.0, 6.0)] == [True, True, True]


def test_a_back_off_doubles_by_default_takes_its_options_by_name_and_refuses_no_wait_at_all() -> None:
    assert [Backoff(min_seconds=1.0, max_seconds=9.0).delay(n, chance=1.0) for n in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert Backoff(min_seconds=1.0, max_seconds=1.0, reset_after_seconds=0.0).reset_after_seconds == 0.0
    with pytest.raises(TypeError):
        Backoff(1.0, 2.0)  # type: ignore[call-arg]
    for seconds in (0.0, -0.5):
        with pytest.raises(ValueError, match="above 0"):
            Backoff(min_seconds=seconds, max_seconds=1.0)


# -- child specs


def spec(**options: Any) -> ChildSpec:
    return ChildSpec(id="x", start=GenServer, **options)


def test_child_spec_takes_its_options_by_name_and_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ChildSpec("x", GenServer)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        spec().id = "y"  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "shutdown"), [("worker", 5.0), ("supervisor", "infinity")])
def test_child_spec_gives_a_worker_five_seconds_and_a_supervisor_all_the_time(kind: str, shutdown: object) -> None:
    assert spec(type=kind).shutdown == shutdown


@pytest.mark.parametrize("shutdown", [0, 0.5, 5, "brutal_kill", "infinity"])
def test_child_spec_takes_seconds_from_0_or_a_word_for_its_shutdown(shutdown: object) -> None:
    assert spec(shutdown=shutdown).shutdown == shutdown


@pytest.mark.parametrize("shutdown", [-1, -0.5, True, "soon", None])
def test_child_spec_refuses_any_other_shutdown(shutdown: object) -> None:
    with pytest.raises(ValueError, match="shutdown"):
        spec(shutdown=shutdown)


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_child_spec_may_be_significant_unless_it_is_permanent(restart: str) -> None:
    assert spec(restart=restart, significant=True).significant
    assert not spec(restart="permanent").significant
    with pytest.raises(ValueError, match="significant"):
        spec(restart="permanent", significant=True)


def test_child_spec_has_a_start_timeout_above_0_or_none() -> None:
    assert [spec(start_timeout=seconds).start_timeout for seconds in (None, 0.5, 60.0)] == [None, 0.5, 60.0]
    for seconds in (0.0, -0.5, -60.0):
        with pytest.raises(ValueError, match="start_timeout"):
            spec(start_timeout=seconds)


@pytest.mark.parametrize("option", ["restart", "type"])
def test_child_spec_names_the_words_that_an_option_may_be(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be one of .*, not 'never'"):
        spec(**{option: "never"})


# -- results and returns


def test_results_are_equal_by_what_they_say_and_cannot_be_changed() -> None:
    ref = Registry().via("x")
    results: list[tuple[Any, dict[str, Any]]] = [
        *((kind, {}) for kind in (Done, Ignored, AlreadyPresent, MaxChildren, NotFound, Running, Restarting)),
        (AlreadyStarted, {"child": ref}),
        (StartFailed, {"reason": Killed()}),
        (FailedToStartChild, {"id": "x", "reason": Killed()}),
        (ChildInfo, {"id": "x", "ref": ref, "state": "running", "type": "worker", "restarts": 0, "last_exit": None}),
        (ChildCounts, {"specs": 1, "active": 1, "supervisors": 0, "workers": 1}),
    ]
    for kind, values in results:
        assert kind(**values) == kind(**values), kind
        with pytest.raises(AttributeError):
            setattr(kind(**values), next(iter(values), "x"), 1)


def test_what_a_supervisor_lists_is_made_by_name() -> None:
    with pytest.raises(TypeError):
        ChildInfo("x", None, "running", "worker", 0, None)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        ChildCounts(1, 1, 0, 1)  # type: ignore[call-arg]


def test_stop_is_normal_by_default_takes_its_reason_either_way_and_its_reply_by_name() -> None:
    assert Stop().reason == Normal()
    assert Stop(Killed()).reason == Stop(reason=Killed()).reason == Killed()
    assert Stop(reply=1).reply == 1
    with pytest.raises(TypeError):
        Stop(Killed(), 1)  # type: ignore[call-arg]
