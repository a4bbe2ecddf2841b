"""Spans of requests that are over, by OpenTelemetry's SDK: one for the HTTP request, in it one for what was asked, in it one a call.

Needs the extra ``otel``. Where they are sent, as whom and how many of them is told by OpenTelemetry's own variables (``OTEL_*``). The SDK's
batch processor is not used: it does not tell what it drops, and its end waits half a minute for a collector that takes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

import runestone
from runestone.domain.chat import Usage
from runestone.telemetry import semconv
from runestone.telemetry.events import INSIDE, AttemptFinished, Failover, RequestFinished
from runestone.telemetry.exchanged import Value
from runestone.telemetry.logs import masked
from runestone.telemetry.trace_context import Attempt, Parent, Trace

_PORTS: Final = {"http": 80, "https": 443}
_LONGEST: Final = 200  # characters of a model's name, which is the client's word
_WELL: Final = frozenset({"ok", "client_gone", "cancelled"})  # nobody has failed
_NO_CALL: Final = "unsupported"  # the outcome of an attempt that could not be sent
_SAME_LINE_SECONDS: Final = 60.0
_MADE_AT_ONCE: Final = 2  # requests in about 0.3 ms, for which the loop waits
_ENCODED_AT_ONCE: Final = 4  # spans, likewise

Attributes = Mapping[str, Value | None]


class Pipeline:
    """Makes the spans of requests, and gives them to an exporter."""

    def __init__(self, exporter: SpanExporter, served: str | None = None) -> None:
        """``served``: the URL that the node listens at."""
        self._exporter = exporter
        self._address, self._port = (None, None) if served is None else _where(served)
        self._ids = _DecidedIds()
        self._made = _Made()
        self._provider = TracerProvider(resource=_resource(), id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(self._made)
        self._tracer = self._provider.get_tracer("runestone", runestone.__version__)

    @classmethod
    def otlp(cls, served: str | None = None) -> Pipeline:
        """To a collector, by OTLP over HTTP. Raises ``ValueError`` and others for variables that make no sense."""
        _quieten()
        return cls(OTLPSpanExporter(), served)

    def sampled(self, parent: Parent | None, trace_id: int) -> bool:
        """What the sampler will say of that trace."""
        result = self._provider.sampler.should_sample(_context(parent), trace_id, "", SpanKind.SERVER)
        return result.decision is Decision.RECORD_AND_SAMPLE

    def export(self, traces: Sequence[Trace]) -> int:
        """Make the spans of ``traces`` and send them; the result is the number of those that nobody took."""
        for number, trace in enumerate(traces):
            if not number % _MADE_AT_ONCE:
                time.sleep(0)  # lets the loop run: it would wait for up to 5 ms each time
            self._make(trace)
        spans = self._made.take()
        if not spans or self._exporter.export(spans) is SpanExportResult.SUCCESS:
            return 0
        return len(traces)

    def close(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()

    # -- one request -------------------------------------------------------------------------------------------------

    def _make(self, trace: Trace) -> None:
        context = _context(trace.parent)
        if (finished := trace.finished) is None:
            for attempt in trace.attempts:
                self._attempt(trace, attempt, context)
            return
        began = trace.ended - int(finished.duration_seconds * 1e9)
        asked_at = began
        if trace.started is not None:  # its duration was taken a moment before its end was noted
            asked_at, began = trace.started_at, min(began, trace.started_at)
        server = None if finished.route == INSIDE else self._server(trace, finished, began, context)
        if finished.asked is not None:
            inside = context if server is None else set_span_in_context(server, context)
            if server is None:
                self._ids.trace_id = trace.trace_id
            operation = self._operation(trace, finished, asked_at, inside)
            within = set_span_in_context(operation, context)
            for attempt in trace.attempts:
                self._attempt(trace, attempt, within, latest=trace.ended)
            operation.end(trace.ended)
        if server is not None:
            server.end(trace.ended)

    def _server(self, trace: Trace, finished: RequestFinished, began: int, context: Context) -> Span:
        known = finished.method in semconv.KNOWN_METHODS
        route = finished.route if finished.route.startswith("/") else None
        method = finished.method if known else semconv.OTHER_METHOD
        failed = _failed(finished.outcome) and not 400 <= finished.status < 500
        self._ids.trace_id = trace.trace_id
        span = self._start(
            f"{finished.method if known else 'HTTP'} {route or ''}".rstrip(),
            SpanKind.SERVER,
            began,
            context,
            {
                semconv.HTTP_REQUEST_METHOD: method,
                semconv.HTTP_REQUEST_METHOD_ORIGINAL: None if known else _plain(masked(finished.method)),
                semconv.HTTP_ROUTE: route,
                semconv.URL_PATH: route,  # the path itself may hold anything
                semconv.URL_SCHEME: "http",
                semconv.SERVER_ADDRESS: self._address,
                semconv.SERVER_PORT: self._port,
                semconv.HTTP_RESPONSE_STATUS_CODE: finished.status or None,
                semconv.ERROR_TYPE: finished.outcome if failed else None,
                semconv.REQUEST_ID: trace.request_id,
            },
        )
        return _with_status(span, failed=failed)

    def _operation(self, trace: Trace, finished: RequestFinished, began: int, context: Context) -> Span:
        operation = semconv.ROUTES.get(finished.route, "chat")
        model, failed = _plain(finished.asked or ""), _failed(finished.outcome)
        last = _last_of(trace, finished)
        answered = _answered_of(last, operation)
        span = self._start(
            f"{operation} {model}",
            SpanKind.INTERNAL,
            began,
            context,
            {
                semconv.OPERATION_NAME: operation,
                **_called(None if last is None else last.finished),
                semconv.REQUEST_MODEL: model,
                semconv.REQUEST_STREAM: finished.stream or None,
                **trace.asked,
                semconv.RESPONSE_MODEL: None if finished.model is None else _plain(finished.model),
                **answered,
                semconv.TIME_TO_FIRST_CHUNK: finished.first_content_seconds if finished.stream else None,
                **_tokens(finished.usage, operation),
                semconv.ERROR_TYPE: finished.outcome if failed else None,
                semconv.REQUEST_ID: trace.request_id,
                semconv.GROUP: finished.group,
                semconv.ATTEMPTS: finished.attempts,
                semconv.OUTCOME: finished.outcome,
            },
        )
        return _with_status(span, failed=failed)

    def _attempt(self, trace: Trace, attempt: Attempt, context: Context, *, latest: int | None = None) -> None:
        """The span of one call; what ended a request has ended with it, though its connection is put away a little later."""
        call = attempt.finished
        if call is None or call.outcome == _NO_CALL:
            return
        operation, failed, model = semconv.OPERATIONS[call.api], _failed(call.outcome), _plain(call.model)
        address, port = (None, None) if attempt.base_url is None else _where(attempt.base_url)
        if trace.finished is None:
            self._ids.trace_id = trace.trace_id
        self._ids.span_id = attempt.span_id
        span = self._start(
            f"{operation} {model}",
            SpanKind.CLIENT,
            attempt.started,
            context,
            {
                semconv.OPERATION_NAME: operation,
                **_called(call),
                semconv.REQUEST_MODEL: model,
                semconv.REQUEST_STREAM: call.stream or None,
                **({} if attempt.exchanged is None else attempt.exchanged.asked),
                **_answered_of(attempt, operation),
                semconv.SERVER_ADDRESS: address,
                semconv.SERVER_PORT: port,
                semconv.TIME_TO_FIRST_CHUNK: call.first_content_seconds if call.stream else None,
                **_tokens(call.usage, operation),
                semconv.ERROR_TYPE: call.outcome if failed else None,
                semconv.REQUEST_ID: trace.request_id,
                semconv.GROUP: call.group,
                semconv.ATTEMPT: call.number,
                semconv.OUTCOME: call.outcome,
            },
        )
        if (cause := attempt.cause) is not None:
            told: dict[str, str | float] = {semconv.REASON: cause.reason}
            if isinstance(cause, Failover):
                told[semconv.FAILED_PROVIDER] = cause.origin
            else:
                told[semconv.WAITED_SECONDS] = cause.waited_seconds
            span.add_event(cause.name, told, attempt.started)
        ended = attempt.ended if latest is None else min(attempt.ended, latest)
        _with_status(span, failed=failed).end(max(attempt.started, ended))

    def _start(self, name: str, kind: SpanKind, began: int, context: Context, attributes: Attributes) -> Span:
        there = {key: value for key, value in attributes.items() if value is not None}
        span = self._tracer.start_span(name, context, kind, there, start_time=began)
        self._ids.forget()
        return span


def _called(call: AttemptFinished | None) -> dict[str, str]:
    """Who a call went to: the vendor by the conventions' name, the provider by ours."""
    if call is None:
        return {}
    return {semconv.PROVIDER_NAME: semconv.PROVIDERS.get(call.kind, call.kind), semconv.PROVIDER: call.provider}


def _answered_of(attempt: Attempt | None, operation: str) -> dict[str, Value]:
    """What the answer says of itself; nothing of one that never came."""
    if attempt is None or (exchanged := attempt.exchanged) is None or (call := attempt.finished) is None:
        return {}
    told: dict[str, Value] = {}
    if exchanged.id is not None:
        told[semconv.RESPONSE_ID] = exchanged.id
    if exchanged.model is not None:
        told[semconv.RESPONSE_MODEL] = _plain(exchanged.model)
    if operation in semconv.GENERATING and (reasons := exchanged.reasons(whole=call.outcome == "ok")) is not None:
        told[semconv.FINISH_REASONS] = reasons
    return told


def _last_of(trace: Trace, finished: RequestFinished) -> Attempt | None:
    """The call that answered, or failed last. ``None`` if nobody was called, or of the one that answered nothing is told."""
    calls = [(a, a.finished) for a in trace.attempts if a.finished is not None and a.finished.outcome != _NO_CALL]
    if not calls or finished.provider not in (None, calls[-1][1].provider):
        return None
    return calls[-1][0]


def _with_status(span: Span, *, failed: bool) -> Span:
    if failed:
        span.set_status(Status(StatusCode.ERROR))
    return span


def _failed(outcome: str) -> bool:
    return outcome not in _WELL


def _tokens(usage: Usage | None, operation: str) -> dict[str, int | None]:
    """What the provider has counted; nothing is guessed."""
    if usage is None:
        return {}
    return {
        semconv.INPUT_TOKENS: usage.input_tokens,
        semconv.OUTPUT_TOKENS: None if operation == "embeddings" else usage.output_tokens,
        semconv.CACHE_READ_TOKENS: usage.cached_tokens or None,
        semconv.CACHE_WRITE_TOKENS: usage.cache_write_tokens or None,
        semconv.REASONING_TOKENS: usage.reasoning_tokens or None,
    }


def _plain(model: str) -> str:
    """A model's name as it may be sent: short, and of whole characters, for one that is not would spoil the batch it is in."""
    return model[:_LONGEST].encode("utf-8", "replace").decode()


@lru_cache(maxsize=256)
def _where(base_url: str) -> tuple[str | None, int | None]:
    url = urlsplit(base_url)
    return url.hostname, url.port or _PORTS.get(url.scheme)


def _context(parent: Parent | None) -> Context:
    """A context with ``parent`` and nothing else: what the surrounding program traces has no part in it."""
    if parent is None:
        return Context()
    span = SpanContext(
        parent.trace_id,
        parent.span_id,
        is_remote=True,
        trace_flags=TraceFlags(parent.flags),
        trace_state=TraceState.from_header([parent.state]) if parent.state else None,
    )
    return set_span_in_context(NonRecordingSpan(span), Context())


def _resource() -> Resource:
    """Who we are: what the variables say, else our name."""
    told = Resource.create()
    own: dict[str, str] = {}
    if str(told.attributes.get(semconv.SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        own[semconv.SERVICE_NAME] = "runestone"
    if semconv.SERVICE_VERSION not in told.attributes:
        own[semconv.SERVICE_VERSION] = runestone.__version__
    return told.merge(Resource(own))


class _DecidedIds(RandomIdGenerator):
    """Ids that were decided before, for the next span; random ones else."""

    trace_id: int | None = None
    span_id: int | None = None

    def forget(self) -> None:
        self.trace_id = self.span_id = None

    def generate_trace_id(self) -> int:
        return self.trace_id or super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self.span_id or super().generate_span_id()


class _Made(SpanProcessor):
    """Keeps the spans that are to be sent until they are taken."""

    def __init__(self) -> None:
        self._spans = _Batch()

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._spans.append(span)

    def take(self) -> list[ReadableSpan]:
        spans, self._spans = self._spans, _Batch()
        return spans


class _Batch(list[ReadableSpan]):
    """Spans; who goes through them, to encode them, lets the loop run between a few."""

    def __iter__(self) -> Iterator[ReadableSpan]:
        for number, span in enumerate(super().__iter__()):
            if not number % _ENCODED_AT_ONCE:
                time.sleep(0)
            yield span


# -- what the exporter logs ------------------------------------------------------------------------------------------


class _Calm(logging.Filter):
    """The same line once a minute: a collector that is away would fill the log. ``text`` stands in place of what is logged."""

    def __init__(self, text: str | None = None) -> None:
        super().__init__()
        self._text = text
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, line = time.monotonic(), str(record.msg)
        if now < self._told.get(line, 0.0):
            return False
        self._told[line] = now + _SAME_LINE_SECONDS
        if self._text is not None:
            record.msg, record.args = self._text, ()
        return True


@lru_cache(maxsize=1)  # once for the process
def _quieten() -> None:
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").addFilter(_Calm())
    # it would log the headers, and with them the collector's key
    headers = "a header in OTEL_EXPORTER_OTLP_HEADERS is not of the form name=value, with both URL-encoded"
    logging.getLogger("opentelemetry.util.re").addFilter(_Calm(headers))
