"""What goes wrong at a provider: what the client sees, how often it was called, and what is thought of it afterwards.

The tables are the contract's ("What counts", "Retry", "Commit point"). A pinned provider has no stand-in, so calls are counted; each row
is asked for on both clients' wires, of both providers.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import frozen

from tests.e2e.node import Upstream
from tests.e2e.rows import MODELS, WIRES, House, Wire, housed

BOTH = (True, False)
STREAM, WHOLE = (True,), (False,)
UNREACHABLE = ("502 upstream_unreachable", "502 api_error")
TIMEOUT = ("504 upstream_timeout", "504 timeout_error")
STALLED = ("504 upstream_stalled", "504 timeout_error")
TRUNCATED = ("502 upstream_truncated", "502 api_error")
NONSENSE = ("502 upstream_invalid_answer", "502 api_error")
TOO_LARGE = ("502 upstream_too_large", "502 api_error")
SERVED = ("200 whole", "200 whole")
CALLERS = ("400 invalid_request", "400 invalid_request_error")


@frozen
class Row:
    """One fault. ``ends`` are what a client of OpenAI's and of Anthropic's wire sees; ``same`` where the provider speaks the same."""

    fault: str
    ends: tuple[str, str]
    calls: int = 1
    failures: int = 1
    status: str = "up"
    streams: tuple[bool, ...] = BOTH
    same: tuple[str, str] | None = None
    providers: tuple[Wire, ...] = WIRES


ROWS = [
    # killed, cut, black-holed
    Row("refused", UNREACHABLE, calls=0, failures=2),
    Row("reset", UNREACHABLE, calls=2, failures=2),
    Row("cut", UNREACHABLE, calls=2, failures=2),
    Row("stall", TIMEOUT),
    Row("cut at=0", TRUNCATED),
    Row("cut at=100", TRUNCATED),
    Row("reset at=100", TRUNCATED),
    Row("stall at=100", STALLED, streams=STREAM),
    Row("stall at=100", TIMEOUT, streams=WHOLE),
    Row("stall after=0", STALLED, streams=STREAM),
    Row("cut after=1", TRUNCATED, streams=STREAM),  # of OpenAI's and of Anthropic's, the first event is no content
    Row("cut after=5", ("200 then upstream_truncated", "200 then api_error"), streams=STREAM),
    Row("reset after=5", ("200 then upstream_truncated", "200 then api_error"), streams=STREAM),
    Row("stall after=5", ("200 then upstream_stalled", "200 then timeout_error"), streams=STREAM),
    # slow
    Row("slow_first_token=9", STALLED, streams=STREAM),
    Row("slow_first_token=9", TIMEOUT, streams=WHOLE),
    Row("slow=0.02", TIMEOUT),
    Row("pace=0.01", SERVED, failures=0),
    # overloaded, out of order
    Row("500", ("502 upstream_error", "500 api_error"), 2, 2, same=("500 server_error", "500 api_error")),
    Row("502", ("502 upstream_error", "500 api_error"), 2, 2, same=("502 server_error", "502 api_error")),
    Row("503", ("502 upstream_error", "529 overloaded_error"), 2, 2, same=("503 server_error", "503 api_error")),
    Row("504", ("504 upstream_error", "500 api_error"), 2, 2, same=("504 server_error", "504 api_error")),
    Row("529", ("503 overloaded", "529 overloaded_error"), 2, 2, same=("529 server_error", "529 overloaded_error")),
    Row("408", TIMEOUT, same=("408 server_error", "408 api_error")),
    Row("html=502", ("502 upstream_error", "500 api_error"), 2, 2, same=("502 upstream_error", "502 api_error")),
    # throttling, our own key and quota: no failures
    Row("429 retry_after=30", ("429 rate_limit_exceeded", "429 rate_limit_error"), failures=0, status="throttled"),
    Row("429 retry_after=30 cut at=20", ("429 rate_limit_exceeded", "429 rate_limit_error"), 1, 0, "throttled"),
    Row("429 retry_after=30 stall at=20", ("429 rate_limit_exceeded", "429 rate_limit_error"), 1, 0, "throttled"),
    Row("401", ("502 upstream_credentials", "502 api_error"), failures=0, status="quarantined"),
    Row(
        "402",
        ("429 insufficient_quota", "429 rate_limit_error"),
        failures=0,
        status="quarantined",
        same=("402 server_error", "402 api_error"),
    ),
    Row(
        "403",
        ("403 upstream_forbidden", "403 permission_error"),
        failures=0,
        status="quarantined",
        same=("403 forbidden", "403 permission_error"),
    ),
    Row("404", ("404 model_not_found", "404 not_found_error"), failures=0, status="not_found"),
    # the caller's own
    Row("400", CALLERS, failures=0),
    Row("400 cut at=0", CALLERS, failures=0),
    Row("422", CALLERS, failures=0, same=("422 server_error", "422 api_error")),
    Row(
        "413",
        ("413 invalid_request", "413 request_too_large"),
        failures=0,
        same=("413 request_too_large", "413 request_too_large"),
    ),
    # lying
    Row("error_event", ("502 upstream_error", "502 api_error"), 2, 2, streams=WHOLE),
    Row("error_event", ("502 upstream_error", "502 api_error"), 2, 2, providers=("openai",), streams=STREAM),
    Row("error_event", ("503 overloaded", "503 api_error"), 2, 2, providers=("anthropic",), streams=STREAM),
    Row("error_event after=0", ("503 overloaded", "503 api_error"), 2, 2, providers=("anthropic",), streams=STREAM),
    Row(
        "error_event after=5", ("200 then upstream_error", "200 then api_error"), providers=("openai",), streams=STREAM
    ),
    Row("error_event after=5", ("200 then overloaded", "200 then api_error"), providers=("anthropic",), streams=STREAM),
    Row("html", NONSENSE),
    Row("garbage", NONSENSE),
    Row("invalid_json", NONSENSE),
    Row("invalid_json after=5", ("200 then upstream_invalid_answer", "200 then api_error"), streams=STREAM),
    Row("empty", TRUNCATED, streams=STREAM),
    Row("empty", NONSENSE, streams=WHOLE),
    Row("redirect", NONSENSE),
    Row("redirect=301", NONSENSE),
    Row("status=204", NONSENSE),
    Row("wrong_length=10", TRUNCATED, streams=WHOLE),
    Row("wrong_length=10", SERVED, failures=0, streams=STREAM),  # its end had come
    Row("wrong_length=-20", NONSENSE, streams=WHOLE),
    Row("no_done", SERVED, failures=0, streams=STREAM),
    Row("done_twice", SERVED, failures=0, streams=STREAM),
    # hostile
    Row("gzip_bomb", NONSENSE),
    Row("endless_head", NONSENSE),
    Row("many_headers=100000", NONSENSE),
    Row("many_headers=100", SERVED, failures=0),
    Row("endless_line", TOO_LARGE),
    Row("comments", TOO_LARGE),
    Row("comments pace=0.02", TIMEOUT),
    # hostile, but the status says enough
    Row("429 retry_after=30 gzip_bomb", ("429 rate_limit_exceeded", "429 rate_limit_error"), 1, 0, "throttled"),
    Row("400 gzip_bomb", CALLERS, failures=0),
    Row(
        "503 endless_line",
        ("502 upstream_error", "529 overloaded_error"),
        2,
        2,
        same=("503 upstream_error", "503 api_error"),
    ),
    Row(
        "503 wrong_length=9",
        ("502 upstream_error", "529 overloaded_error"),
        2,
        2,
        same=("503 upstream_error", "503 api_error"),
    ),
    # half recovered
    Row("503 times=1", SERVED, calls=2, failures=0),
    Row("reset times=1", SERVED, calls=2, failures=0),
    Row("503 retry_after=0.1 times=1", SERVED, calls=2, failures=0),
    Row("error_event times=1", SERVED, calls=2, failures=0),
]


def _cases() -> Iterator[object]:
    """Streams on every pair of wires, whole answers on the provider's own."""
    for row in ROWS:
        for provider in row.providers:
            for stream in row.streams:
                for client in WIRES if stream else (provider,):
                    name = f"{row.fault}, {provider} to {client}, {'stream' if stream else 'whole'}"
                    yield pytest.param(row, provider, client, stream, id=name)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, _openai: Upstream, _anthropic: Upstream) -> Iterator[House]:
    with housed(tmp_path_factory.mktemp("faults"), _openai, _anthropic) as it:
        yield it


@pytest.mark.parametrize(("row", "provider", "client", "stream"), list(_cases()))
def test_a_fault_is_told_counted_and_remembered_as_the_contract_says(
    house: House, row: Row, provider: Wire, client: Wire, stream: bool
) -> None:
    house.clean(**{provider: row.fault})
    expected = (row.same if row.same and provider == client else row.ends)[WIRES.index(client)]

    seen = house.ask(f"{provider}-default/{MODELS[provider]}", client=client, stream=stream)

    after = house.provider(provider)
    breaker = after["breaker"]
    assert seen.ending == expected
    assert (house.calls(provider), breaker["consecutive_failures"], after["status"]) == (
        row.calls,
        row.failures,
        row.status,
    )
    assert breaker["state"] == "closed"
    assert house.calls("anthropic" if provider == "openai" else "openai") == 0
    assert (after["throttled_seconds"] is not None) == (row.status == "throttled")
    assert (after["quarantined_seconds"] is not None) == (row.status in ("quarantined", "not_found"))
