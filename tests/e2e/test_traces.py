"""Traces of a real process: sent to a collector that this test is, taken up from clients, handed on to providers, and never in the way."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO

CANARY = "canary0123456789"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
_OUTER = (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_CLIENT)  # from the outside
LOST = re.compile(r'^runestone_traces_dropped_total\{reason="export"\} ([0-9.]+)$', re.MULTILINE)


@define(eq=False)
class Collector:
    """What has been sent to ``url``."""

    url: str
    paths: list[str] = field(factory=list)
    headers: list[dict[str, str]] = field(factory=list)
    raw: list[bytes] = field(factory=list)
    requests: list[ExportTraceServiceRequest] = field(factory=list)

    @property
    def spans(self) -> list[Span]:
        """All spans, in the order of their start."""
        found = [s for r in self.requests for per in r.resource_spans for scope in per.scope_spans for s in scope.spans]
        return sorted(found, key=lambda span: (span.start_time_unix_nano, _OUTER.index(span.kind)))


@pytest.fixture
def collector() -> Iterator[Collector]:
    """One that takes everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.paths.append(self.path)
            found.headers.append({name.lower(): value for name, value in self.headers.items()})
            found.raw.append(body)
            found.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def black_hole() -> Iterator[str]:
    """A collector that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def values(span: Span) -> dict[str, Any]:
    """The attributes of a span."""
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes}


def lost(node: Gateway) -> float:
    """Requests whose spans nobody took, by the node's own count."""
    found = LOST.search(node.health("/metrics").text)
    return float(found[1]) if found else 0.0


def serving(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """``runestone serve`` that must end by itself."""
    command = [sys.executable, "-m", "runestone", "serve", *arguments]
    own = {
        "PATH": os.environ["PATH"],
        "RUNESTONE_TRACES_ENABLED": "true",
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
    }
    return subprocess.run(command, env=own | environ, capture_output=True, text=True, timeout=60, check=False)


def test_a_failover_reaches_the_collector_with_the_clients_trace_and_the_providers_know_it(
    serve: Callable[..., Gateway], collector: Collector, primary: Upstream, secondary: Upstream
) -> None:
    node = serve(
        RUNESTONE_TRACES_ENABLED="true",
        RUNESTONE_TRACES_PROPAGATE="true",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_HEADERS=f"x-tenant={CANARY}-tenant",
        OTEL_SERVICE_NAME="gateway-of-a-test",
        OPENAI_RETRY_ATTEMPTS="1",
    )
    primary.fault("503")
    answer = node.post(
        {**HELLO, "messages": [{"role": "user", "content": f"{CANARY}-prompt"}]},
        {"traceparent": f"00-{TRACE}-{SPAN}-01", "authorization": f"Bearer {CANARY}-key"},
    )
    assert (answer.status_code, answer.headers["x-runestone-provider"]) == (200, "anthropic-default")

    eventually(lambda: len(collector.spans) >= 4, "four spans are sent")

    server, operation, failed, answered = collector.spans
    assert [(span.name, Span.SpanKind.Name(span.kind)) for span in collector.spans] == [
        ("POST /v1/chat/completions", "SPAN_KIND_SERVER"),
        ("chat gpt-4o-mini", "SPAN_KIND_INTERNAL"),
        ("chat gpt-4o-mini", "SPAN_KIND_CLIENT"),
        ("chat claude-sonnet-4-5", "SPAN_KIND_CLIENT"),
    ]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert server.parent_span_id.hex() == SPAN
    assert (values(server)["server.address"], values(server)["server.port"]) == ("127.0.0.1", node.port)
    assert operation.parent_span_id == server.span_id
    assert failed.parent_span_id == answered.parent_span_id == operation.span_id
    for upstream, span in ((primary, failed), (secondary, answered)):
        (request,) = upstream.requests()
        assert request["headers"]["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
        assert values(span)["server.port"] == int(upstream.url.split(":")[2].partition("/")[0])
    assert values(failed)["error.type"] == "server_error"
    assert values(operation)["gen_ai.usage.output_tokens"] == values(answered)["gen_ai.usage.output_tokens"] > 0
    (resource,) = {r.resource_spans[0].resource.SerializeToString() for r in collector.requests}
    assert b"gateway-of-a-test" in resource
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.headers[0]["x-tenant"] == f"{CANARY}-tenant"
    assert CANARY.encode() not in b"".join(collector.raw)
    assert lost(node) == 0.0


def test_what_is_left_is_sent_when_the_node_stops(serve: Callable[..., Gateway], collector: Collector) -> None:
    node = serve(RUNESTONE_TRACES_ENABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    for _ in range(20):
        assert node.post(HELLO).status_code == 200

    assert node.stop() == 0
    assert len(collector.spans) == 60


def test_a_collector_that_never_answers_neither_slows_requests_nor_the_end(serve: Callable[..., Gateway]) -> None:
    with black_hole() as url:
        node = serve(
            RUNESTONE_TRACES_ENABLED="true", RUNESTONE_DRAIN_TIMEOUT_MS="0", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=url
        )
        assert node.post(HELLO).status_code == 200
        eventually(lambda: "'export'" in str(node.ctl("tree")), "something is being sent")
        for _ in range(50):
            assert node.post(HELLO).status_code == 200

        assert node.stop() == 0  # else the watchdog would have ended it, ten seconds after the drain
    assert "were not sent" in node.told()


def test_a_collector_that_is_away_costs_spans_which_are_counted_and_a_line_in_the_log(
    serve: Callable[..., Gateway],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    node = serve(
        RUNESTONE_TRACES_ENABLED="true",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_TIMEOUT="0.1",
        OTEL_EXPORTER_OTLP_HEADERS=f"x-tenant={CANARY}-tenant,{CANARY} broken",
    )
    for count in (1, 2, 3):
        assert node.post(HELLO).status_code == 200
        eventually(lambda count=count: lost(node) == count, f"{count} are counted")  # type: ignore[misc]

    log = node.told()
    assert log.count("Failed to export spans batch") == 1
    assert "OTEL_EXPORTER_OTLP_HEADERS" in log
    assert CANARY not in log
    assert node.stop() == 0


def test_without_the_extra_it_is_a_problem_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry'] = None\n")
    here = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))

    done = serving(PYTHONPATH=here)

    assert done.returncode == 78
    assert done.stderr == (
        "env:RUNESTONE_TRACES_ENABLED: needs the extra otel; got true; allowed: pip install 'runestone[otel]', or false\n"
    )


def test_a_variable_of_opentelemetry_that_cannot_be_used_is_a_problem_of_the_settings(tmp_path: Path) -> None:
    done = serving(OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="-1", RUNESTONE_ADMIN_SOCKET=str(tmp_path / "admin.sock"))

    assert done.returncode == 78, done
    assert done.stderr.startswith("env:OTEL_*: cannot be used; got ValueError: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "admin.sock").exists()
