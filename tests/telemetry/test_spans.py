"""Spans from events: what becomes of each number and word, and of what clients make up."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

import runestone
from runestone.domain.chat import Usage
from runestone.telemetry.bus import Bus
from runestone.telemetry.spans import Pipeline
from runestone.telemetry.trace_context import Parent, parsed
from runestone.telemetry.traces import Recorder
from tests.telemetry.happenings import called, ended, finished, happen, started

VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
hexadecimal = st.text("0123456789abcdef", min_size=1)


class Keeping(SpanExporter):
    """Keeps what it is given as it is."""

    spans: Sequence[ReadableSpan] = ()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans = spans
        return SpanExportResult.SUCCESS


def spans_of(*events: Any, base_url: str | None = None) -> dict[str, ReadableSpan]:
    """The spans that these events of one request become, by kind."""
    bus, exporter = Bus(), InMemorySpanExporter()
    recorder = Recorder(lambda _: base_url, lambda *_: None, None)
    bus.subscribe(recorder.handle)
    happen(bus, *events)
    assert bus.failures == 0
    assert Pipeline(exporter).export(recorder.take()) == 0
    return {span.kind.name: span for span in exporter.get_finished_spans()}


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_tokens_are_told_as_the_conventions_count_them() -> None:
    usage = Usage(input_tokens=100, output_tokens=50, cached_tokens=60, cache_write_tokens=20, reasoning_tokens=30)
    spans = spans_of(started("r"), called("r"), ended("r", usage=usage), finished("r", usage=usage))

    for kind in ("INTERNAL", "CLIENT"):
        assert {name: value for name, value in told(spans[kind]).items() if "usage" in name} == {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.cache_write.input_tokens": 20,
            "gen_ai.usage.reasoning.output_tokens": 30,
        }


def test_what_is_not_known_is_not_told() -> None:
    spans = spans_of(started("r"), called("r"), ended("r"), finished("r"))

    assert not [name for span in spans.values() for name in told(span) if "usage" in name or "server" in name]


def test_embeddings_have_no_output() -> None:
    usage, route = Usage(input_tokens=8, output_tokens=0), "/v1/embeddings"
    spans = spans_of(
        started("r", route=route), called("r"), ended("r", usage=usage, api="embeddings"), finished("r", route=route, usage=usage)
    )  # fmt: skip

    for kind in ("INTERNAL", "CLIENT"):
        assert spans[kind].name == "embeddings m"
        assert told(spans[kind])["gen_ai.usage.input_tokens"] == 8
        assert "gen_ai.usage.output_tokens" not in told(spans[kind])


@pytest.mark.parametrize(
    ("base_url", "address", "port"),
    [
        ("https://api.openai.com/v1", "api.openai.com", 443),
        ("http://10.0.0.1/v1", "10.0.0.1", 80),
        ("http://[::1]:8000/v1", "::1", 8000),
    ],
)
def test_a_call_says_where_it_went(base_url: str, address: str, port: int) -> None:
    spans = spans_of(started("r"), called("r"), ended("r"), finished("r"), base_url=base_url)

    assert (told(spans["CLIENT"])["server.address"], told(spans["CLIENT"])["server.port"]) == (address, port)


@pytest.mark.parametrize("model", ["\ud800", "a\x00b\n", "m" * 100_000])
def test_no_name_of_a_model_spoils_the_batch_it_is_in(model: str) -> None:
    spans = spans_of(
        started("r", model=model), called("r", model=model), ended("r", model=model), finished("r", asked=model, model=model)
    )  # fmt: skip

    assert len(encode_spans(list(spans.values())).SerializeToString()) < 5000
    assert len(spans) == 3


def test_a_method_that_nobody_knows_is_no_name() -> None:
    spans = spans_of(
        finished("r", method="CANARY", route="other", asked=None, status=405, outcome="method_not_allowed")
    )

    assert spans["SERVER"].name == "HTTP"
    assert told(spans["SERVER"])["http.request.method"] == "_OTHER"
    assert told(spans["SERVER"])["http.request.method_original"] == "CANARY"


def test_a_call_that_is_put_away_after_the_last_byte_ended_with_it() -> None:
    spans = spans_of(started("r"), called("r"), finished("r"), ended("r"))

    assert spans["CLIENT"].end_time == spans["INTERNAL"].end_time == spans["SERVER"].end_time


def test_a_span_holds_what_is_in_it_however_late_its_end_is_noted() -> None:
    spans = spans_of(started("r"), called("r"), ended("r"), finished("r", duration_seconds=0.0))

    starts = [spans[kind].start_time or 0 for kind in ("SERVER", "INTERNAL", "CLIENT")]
    assert starts == sorted(starts)


def test_what_the_surrounding_program_traces_has_no_part_in_it() -> None:
    around = NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)))
    with use_span(around):
        spans = spans_of(started("r"), called("r"), ended("r"), finished("r"))

    assert spans["SERVER"].parent is None
    assert 1 not in {span.context.trace_id for span in spans.values() if span.context}


def test_who_we_are_is_the_variables_word_and_ours_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    events = (started("r"), finished("r"))
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    resource = spans_of(*events)["SERVER"].resource.attributes
    assert (resource["service.name"], resource["service.version"]) == ("runestone", runestone.__version__)

    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=7,deployment.environment.name=test")
    resource = spans_of(*events)["SERVER"].resource.attributes
    assert (resource["service.name"], resource["service.version"]) == ("mine", "7")
    assert resource["deployment.environment.name"] == "test"


def test_the_sampler_of_the_variable_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert spans_of(started("r"), finished("r")) == {}

    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    assert spans_of(started("r"), finished("r")) == {}
    assert len(spans_of(started("r", traceparent=VALID), finished("r"))) == 2


def test_an_sdk_that_is_switched_off_makes_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")

    assert spans_of(started("r"), called("r"), ended("r", outcome="timeout"), finished("r", outcome="timeout")) == {}


def turns_beside(work: Callable[[], object]) -> int:
    """How often this thread gets its turn while another does ``work``, where it gets one only if that gives it."""
    interval, turns = sys.getswitchinterval(), 0
    sys.setswitchinterval(1000.0)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            turns += 1
            time.sleep(0)
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    return turns


def test_the_loop_has_its_turns_while_spans_are_made_and_while_they_are_encoded() -> None:
    bus, exporter = Bus(), Keeping()
    recorder = Recorder(lambda _: None, lambda *_: None, None)
    bus.subscribe(recorder.handle)
    for number in range(100):
        happen(bus, started(str(number)), called(str(number)), ended(str(number)), finished(str(number)))
    pipeline, batch = Pipeline(exporter), recorder.take()

    assert turns_beside(lambda: pipeline.export(batch)) > 20
    assert len(exporter.spans) == 300
    assert turns_beside(lambda: encode_spans(exporter.spans)) > 20


@given(trace_id=st.integers(1, 2**128 - 1))
def test_what_providers_are_told_of_sampling_is_what_is_done(trace_id: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        patch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
        exporter = InMemorySpanExporter()
        pipeline = Pipeline(exporter)
    bus, recorder = Bus(), Recorder(lambda _: None, lambda *_: None, pipeline.sampled)
    recorder.handle(started("r"))
    recorder.handle(finished("r"))
    (trace,) = recorder.take()
    trace.trace_id = trace_id
    pipeline.export([trace])

    assert bool(exporter.get_finished_spans()) == pipeline.sampled(None, trace_id)
    assert {s.context.trace_id for s in exporter.get_finished_spans() if s.context} <= {trace_id}
    assert bus.failures == 0


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_a_valid_trace_context_is_read(trace_id: int, span_id: int, flags: int) -> None:
    there = Parent(trace_id, span_id, flags)

    assert parsed(f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}") == there
    assert parsed(f"cc-{trace_id:032x}-{span_id:016x}-{flags:02x}-what-will-be") == there


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=1", "a=1"), ("a=1,b=2", "a=1,b=2"), ("1a@b*/_-=!~ x", "1a@b*/_-=!~ x"), (" a=1 ,\t,b=2", "a=1,b=2"), ("", ""), (None, ""),
        ("a=1,a=2", ""), ("A=1", ""), ("a=", ""), ("a=1=2", ""), ("a=b c", "a=b c"), ("a=\xe4", ""), ("a", ""), ("a=1\nb=2", ""),
        (",".join(f"k{n}=1" for n in range(32)), ",".join(f"k{n}=1" for n in range(32))), (",".join(f"k{n}=1" for n in range(33)), ""),
        ("a=" + 255 * "x", "a=" + 255 * "x"), ("a=" + 511 * "x", ""),
    ],
)  # fmt: skip
def test_a_trace_state_is_handed_on_whole_or_not_at_all(state: str | None, kept: str) -> None:
    there, none = parsed(VALID, state), parsed(None, state)

    assert there is not None
    assert there.state == kept
    assert none is None


@pytest.mark.parametrize(
    "header",
    [
        VALID + "-more", "ff" + VALID[2:], VALID[:-1], VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", 32 * "0"),
        VALID.replace("00f067aa0ba902b7", 16 * "0"), VALID.upper(), f" {VALID}", f"{VALID}\n", "cc" + VALID[2:] + "." + 9 * "x",
        "cc" + VALID[2:] + "-" + 500 * "x", VALID.replace("4", "٤", 1),
    ],
)  # fmt: skip
def test_an_invalid_trace_context_is_none(header: str) -> None:
    assert parsed(VALID) is not None
    assert parsed(header) is None


@given(st.text() | st.lists(hexadecimal).map("-".join))
def test_no_header_breaks_the_reader(header: str) -> None:
    parsed(header)
    parsed(VALID, header)
