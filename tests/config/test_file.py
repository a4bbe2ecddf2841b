"""Each key of ``runestone.toml``: its default, its valid forms, and the exact message for each invalid one, with its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import attrs
import pytest

from runestone.config.build import Loaded, build
from runestone.config.document import NAMED, TABLES
from runestone.config.load import read
from runestone.config.settings import ConfigurationError, ModelAlias, Settings
from runestone.domain.catalogue import KINDS
from runestone.domain.secret import Secret

TIME = 'milliseconds such as 120000, or "120s"; from 1 ms to 24 h'
TIME_OR_NONE = 'milliseconds such as 120000, or "120s"; from 0 ms to 24 h'
LEDGER = (
    '"sqlite:///absolute/path", "postgresql://user:password@host/database", "none", '
    'or { env = "NAME" }, { file = "/path" } or { credential = "name" }'
)
STRATEGIES = "round_robin, priority, load_balanced, fastest_first, health_aware, cost_optimized"
PROVIDER = '[providers.mine]\nkind = "openai"\napi_key = "sk-mine"\n'

Toml = Callable[[str], Path]


@pytest.fixture
def toml(tmp_path: Path) -> Toml:
    def write(text: str) -> Path:
        path = tmp_path / "runestone.toml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


def loaded(path: Path, environ: Mapping[str, str] | None = None) -> Loaded:
    return build(read(environ or {}, path), {})


def problems(path: Path, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        loaded(path, environ)
    return [str(problem) for problem in raised.value.problems]


def at(settings: Settings, path: str) -> Any:
    def step(value: Any, name: str) -> Any:
        if isinstance(value, tuple) and not name.isdigit():
            return next(one for one in value if one.name == name)
        if isinstance(value, Mapping):
            return value[name]
        return value[int(name)] if name.isdigit() else getattr(value, name)

    return reduce(step, path.split("/"), settings)


# key, what it becomes, default, [(TOML, value)], [(TOML, got, what and allowed)]
KEYS: list[tuple[str, str, Any, list[tuple[str, Any]], list[tuple[str, str]]]] = [
    ("server.host", "server/host", "127.0.0.1", [('"localhost"', "localhost")],
     [("3", "is not a text; got 3; allowed: text"),
      ('"0.0.0.0"', ("would serve other machines without any key; got '0.0.0.0'; "
       "allowed: a loopback address, or set RUNESTONE_API_KEYS"))]),
    ("server.port", "server/port", 4003, [("0", 0), ("8080", 8080), ('"8080"', 8080)],
     [("65536", "is not a whole number in range; got 65536; allowed: 0 to 65535"),
      ("true", "is not a whole number in range; got true; allowed: 0 to 65535"),
      ("1.5", "is not a whole number in range; got 1.5; allowed: 0 to 65535")]),
    ("server.mode", "server/mode", "enhanced", [('"legacy"', "legacy")],
     [('"legaci"', "is not known; got 'legaci'; allowed: enhanced, legacy (did you mean legacy?)")]),
    ("server.request_deadline_ms", "timeouts/request_deadline_seconds", 600.0, [("1500", 1.5), ('"2m"', 120.0)],
     [("0", f"is not a time in range; got 0; allowed: {TIME}"), ('"soon"', f"is not a time in range; got 'soon'; allowed: {TIME}")]),
    ("server.first_token_timeout_ms", "timeouts/first_token_seconds", 30.0, [("5000", 5.0)],
     [("-1", f"is not a time in range; got -1; allowed: {TIME}")]),
    ("server.idle_timeout_ms", "timeouts/idle_seconds", 30.0, [('"1.5s"', 1.5)],
     [("[]", f"is not a time in range; got a list; allowed: {TIME}")]),
    ("server.connect_timeout_ms", "timeouts/connect_seconds", 5.0, [("250", 0.25)],
     [("{}", f"is not a time in range; got a table; allowed: {TIME}")]),
    ("server.drain_timeout_ms", "server/drain_timeout_seconds", 30.0, [("0", 0.0)],
     [('"25h"', f"is not a time in range; got '25h'; allowed: {TIME_OR_NONE}")]),
    ("server.body_limit_bytes", "server/body_limit_bytes", 32 * 1024 * 1024, [("1", 1)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 1073741824")]),
    ("server.body_timeout_ms", "server/body_timeout_seconds", 30.0, [("2000", 2.0)],
     [("0", f"is not a time in range; got 0; allowed: {TIME}")]),
    ("server.max_upstream_calls", "max_upstream_calls", 4, [("9", 9)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 100")]),
    ("server.max_requests", "server/max_requests", 2000, [("10", 10)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 1000000")]),
    ("server.max_connections", "server/max_connections", 10_000, [("10", 10)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 1000000")]),
    ("server.max_loop_lag_ms", "server/max_loop_lag_seconds", 0.2, [("0", 0.0), ("50", 0.05)],
     [("-1", f"is not a time in range; got -1; allowed: {TIME_OR_NONE}")]),
    ("health.port", "server/health_port", 4004, [("0", 0)],
     [("4003", "is the API's port too; got 4003; allowed: another port, or 0 for a free one")]),
    ("health.probe_interval_ms", "providers/mine/probe_interval_seconds", 30.0, [("0", 0.0), ('"2m"', 120.0)],
     [("-1", f"is not a time in range; got -1; allowed: {TIME_OR_NONE}")]),
    ("admin.socket", "server/admin_socket", None, [('"/run/x.sock"', Path("/run/x.sock"))],
     [("3", "is not a text; got 3; allowed: a path")]),
    ("admin.observe_group", "server/observe_group", None, [('"operators"', "operators"), ('"4711"', "4711")],
     [("3", "is not a text; got 3; allowed: text")]),
    ("log.level", "logs/level", "INFO", [('"debug"', "DEBUG")],
     [('"loud"', "is not known; got 'loud'; allowed: TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL")]),
    ("log.format", "logs/format", "auto", [('"json"', "json")],
     [('"jsno"', "is not known; got 'jsno'; allowed: auto, json, pretty (did you mean json?)")]),
    ("log.access", "logs/access", True, [("false", False), ('"off"', False)],
     [("3", "is not a yes or no; got 3; allowed: true or false")]),
    ("events.keep", "events/keep", 10_000, [("1", 1), ("100000", 100_000)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 100000")]),
    ("events.file", "events/file", None, [('"/var/log/x.jsonl"', Path("/var/log/x.jsonl"))],
     [("3", "is not a text; got 3; allowed: a path")]),
    ("events.file_bytes", "events/file_bytes", 64 * 1024 * 1024, [("10000", 10_000)],
     [("9999", "is not a whole number in range; got 9999; allowed: 10000 to 1099511627776")]),
    ("traces.enabled", "traces/enabled", False, [("true", True)],
     [("3", "is not a yes or no; got 3; allowed: true or false")]),
    ("traces.propagate", "traces/propagate", False, [("true", True)],
     [('"maybe"', "is not a yes or no; got 'maybe'; allowed: true or false")]),
    ("ledger.url", "ledger/url", None, [('"sqlite:///var/x.db"', Secret("sqlite:///var/x.db")), ('"none"', None), ('""', None)],
     [("3", f"is not a URL; got no text; allowed: {LEDGER}"),
      ('"sqlite://x/y"', f"is not the URL of a ledger; got sqlite://x/y; allowed: {LEDGER}"),
      ('"mysql://me:secret@h/d?p=q"', f"is not the URL of a ledger; got mysql://***@h/d; allowed: {LEDGER}"),
      ('"secret"', f"is not the URL of a ledger; got ***; allowed: {LEDGER}")]),
    ("ledger.interval_ms", "ledger/interval_seconds", 1.0, [("250", 0.25)],
     [("9", 'is not a time in range; got 9; allowed: milliseconds such as 120000, or "120s"; from 10 ms to 24 h')]),
    ("ledger.retention_days", "ledger/retention_days", 0, [("90", 90)],
     [("-1", "is not a whole number in range; got -1; allowed: 0 to 36500")]),
    ("retry.max_attempts", "providers/mine/retry/max_attempts", 3, [("1", 1)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 100")]),
    ("retry.base_delay_ms", "providers/mine/retry/base_delay_seconds", 1.0, [("0", 0.0), ("500", 0.5)],
     [("-1", f"is not a time in range; got -1; allowed: {TIME_OR_NONE}")]),
    ("retry.backoff_factor", "providers/mine/retry/factor", 2.0, [("1.5", 1.5), ("3", 3.0)],
     [("0.5", "is not a number in range; got 0.5; allowed: 1 to 100"), ("nan", "is not a number in range; got nan; allowed: 1 to 100")]),
    ("retry.jitter", "providers/mine/retry/jitter", True, [("false", False), ('"off"', False)],
     [("3", "is not a yes or no; got 3; allowed: true or false")]),
    ("circuit_breaker.failure_threshold", "providers/mine/breaker/failure_threshold", 5, [("10", 10)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 10000")]),
    ("circuit_breaker.recovery_timeout_ms", "providers/mine/breaker/recovery_timeout_seconds", 60.0, [("120000", 120.0)],
     [("0", f"is not a time in range; got 0; allowed: {TIME}")]),
    ("circuit_breaker.half_open_limit", "providers/mine/breaker/half_open_limit", 3, [("5", 5)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 1000")]),
    ("circuit_breaker.slow_first_token_ms", "providers/mine/breaker/slow_first_token_seconds", None, [("0", None), ("9000", 9.0)],
     [("-1", f"is not a time in range; got -1; allowed: {TIME_OR_NONE}")]),
    ("failover.strategy", "groups/default-chat-service/strategy", "round_robin", [('"priority"', "priority")],
     [('"fastest"', f"is not known; got 'fastest'; allowed: {STRATEGIES} (did you mean fastest_first?)")]),
    ("failover.max_attempts", "groups/default-chat-service/max_attempts", 3, [("2", 2)],
     [("101", "is not a whole number in range; got 101; allowed: 1 to 100")]),
    ("failover.health_threshold", "groups/default-chat-service/health_threshold", 0.7, [("0", 0.0), ("1.0", 1.0)],
     [("1.1", "is not a number in range; got 1.1; allowed: 0 to 1")]),
    ("providers.mine.kind", "providers/mine/kind", "openai", [('"anthropic"', "anthropic")],
     [('"opena"', f"is not known; got 'opena'; allowed: {', '.join(KINDS)} (did you mean openai?)")]),
    ("providers.mine.base_url", "providers/mine/base_url", "https://api.openai.com/v1",
     [('"http://127.0.0.1:1/v1/"', "http://127.0.0.1:1/v1")],
     [('"https://me:pw@host/v1"', ("is not a usable address; got 'https://***@host/v1'; "
       "allowed: http(s)://host[:port]/path without user, query and fragment"))]),
    ("providers.mine.timeout_ms", "providers/mine/timeout_seconds", 120.0, [("180000", 180.0)],
     [("0", f"is not a time in range; got 0; allowed: {TIME}")]),
    ("providers.mine.retry_attempts", "providers/mine/retry/max_attempts", 3, [("5", 5)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 100")]),
    ("providers.mine.circuit_breaker", "providers/mine/circuit_breaker", True,
     [("false", False), ("{ failure_threshold = 10 }", True)],
     [("3", "is not a yes or no; got 3; allowed: true, false, or a table with failure_threshold, recovery_timeout_ms, half_open_limit, slow_first_token_ms")]),
    ("providers.mine.max_concurrency", "providers/mine/concurrency/limit", None, [("8", 8)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 100000")]),
    ("providers.mine.adaptive_concurrency", "providers/mine/concurrency/adaptive", False, [("true", True)],
     [("3", "is not a yes or no; got 3; allowed: true or false")]),
    ("providers.mine.max_queue", "providers/mine/concurrency/queue", 100, [("0", 0)],
     [("-1", "is not a whole number in range; got -1; allowed: 0 to 100000")]),
    ("providers.mine.queue_timeout_ms", "providers/mine/concurrency/queue_seconds", 5.0, [("0", 0.0), ('"2s"', 2.0)],
     [("-1", f"is not a time in range; got -1; allowed: {TIME_OR_NONE}")]),
    ("providers.mine.default_model", "providers/mine/default_model", "gpt-4o-mini", [('"m"', "m")],
     [('""', "is not a text; got ''; allowed: text")]),
    ("providers.mine.models", "providers/mine/models", (), [('["a", "b", "a"]', ("a", "b"))],
     [('"a"', "is not a list of names; got 'a'; allowed: a list of names, such as [\"openai-default\"]")]),
    ("providers.mine.telemetry", "providers/mine/telemetry", True, [("false", False)],
     [('"maybe"', "is not a yes or no; got 'maybe'; allowed: true or false")]),
    ("providers.mine.probe_interval_ms", "providers/mine/probe_interval_seconds", 30.0, [("0", 0.0), ('"5s"', 5.0)],
     [('"never"', f"is not a time in range; got 'never'; allowed: {TIME_OR_NONE}")]),
    ("groups.crew.members", "groups/crew/providers", ("mine",), [('["mine"]', ("mine",)), ("[]", ())],
     [('["nobody"]', "names a provider that is not there; got 'nobody'; allowed: openai-default, anthropic-default, mine")]),
    ("groups.crew.strategy", "groups/crew/strategy", "round_robin", [('"health_aware"', "health_aware")],
     [('"x"', f"is not known; got 'x'; allowed: {STRATEGIES}")]),
    ("groups.crew.max_attempts", "groups/crew/max_attempts", 3, [("1", 1)],
     [("0", "is not a whole number in range; got 0; allowed: 1 to 100")]),
    ("groups.crew.health_threshold", "groups/crew/health_threshold", 0.7, [("0", 0.0)],
     [("-1", "is not a number in range; got -1; allowed: 0 to 1")]),
    ("groups.crew.models", "groups/crew/models", {}, [('{ "gpt-4o" = { anthropic = "claude-x" } }', {"gpt-4o": {"anthropic": "claude-x"}})],
     [('["a"]', 'is not a table of models; got a list; allowed: tables such as "gpt-4o" = { anthropic = "claude-sonnet-4-5" }')]),
    ("groups.crew.weights", "groups/crew/weights", {}, [("{ mine = 2 }", {"mine": 2.0})],
     [("3", "is not a table of weights; got 3; allowed: numbers above 0 by provider, such as { openai-default = 2 }")]),
    ("groups.crew.mode", "groups/crew/mode", None, [('"legacy"', "legacy")],
     [('"off"', "is not known; got 'off'; allowed: enhanced, legacy")]),
    ("models.quick", "models", {}, [('"gpt-4o"', {"quick": ModelAlias(model="gpt-4o")})],
     [("3", "is not a table; got 3; allowed: a table with model, group")]),
    ("models.quick.model", "models", {}, [('"gpt-4o"', {"quick": ModelAlias(model="gpt-4o")})],
     [("3", "is not a text; got 3; allowed: text")]),
    ("prices.m.input_per_million_usd", "prices", {}, [], [("-1", "is not a price; got -1; allowed: a number that is not negative")]),
]  # fmt: skip


def put(key: str, value: str) -> str:
    """A file that sets ``key``, at its third line or later, with a provider of the file's own beside it."""
    *table, name = key.split(".")
    if table[:2] == ["providers", "mine"]:
        kind = "" if name == "kind" else 'kind = "openai"\n'
        return f'[providers.mine]\n{kind}api_key = "sk-mine"\n{name} = {value}\n'
    return f"{PROVIDER}[{'.'.join(table)}]\n{name} = {value}\n"


@pytest.mark.parametrize(
    ("key", "path", "default"), [(k, p, d) for k, p, d, *_ in KEYS if d is not None and k.count(".") < 2]
)
def test_a_key_that_nobody_sets_has_its_default(toml: Toml, key: str, path: str, default: Any) -> None:
    entries = loaded(toml(PROVIDER))

    assert at(entries.settings, path) == default
    assert {e.key: e.origin for e in entries.entries if e.key == key} in ({key: "default"}, {})


@pytest.mark.parametrize(
    ("key", "path", "default"), [(k, p, d) for k, p, d, *_ in KEYS if k.startswith(("providers.", "groups."))]
)
def test_a_key_of_a_named_table_that_is_left_out_has_its_default(toml: Toml, key: str, path: str, default: Any) -> None:
    text = PROVIDER + ("[groups.crew]\n" if key.startswith("groups.") else "")
    expected = default if key != "groups.crew.members" else ("mine",)

    assert at(loaded(toml(text)).settings, path) == expected


@pytest.mark.parametrize(
    ("key", "path", "form", "value"), [(k, p, f, v) for k, p, _, forms, _ in KEYS for f, v in forms]
)
def test_a_valid_form_is_taken_and_its_line_is_its_origin(
    toml: Toml, key: str, path: str, form: str, value: Any
) -> None:
    text = put(key, form)
    found = loaded(toml(text))

    assert at(found.settings, path) == value
    line = next(n for n, line in enumerate(text.splitlines(), 1) if line.startswith(f"{key.rpartition('.')[2]} ="))
    origins = {e.origin for e in found.entries if e.key == key or e.key.startswith(f"{key}.")}
    assert f"runestone.toml:{line}" in origins


@pytest.mark.parametrize(("key", "form", "message"), [(k, f, m) for k, *_, bad in KEYS for f, m in bad])
def test_an_invalid_form_is_told_with_its_line(toml: Toml, key: str, form: str, message: str) -> None:
    text = put(key, form)
    line = next(n for n, line in enumerate(text.splitlines(), 1) if line.startswith(f"{key.rpartition('.')[2]} ="))

    told = problems(toml(text))

    if key == "models.quick" or (form == "3" and key == "models.quick.model"):
        told = told[:1]
    assert told[0] == f"runestone.toml:{line}: {key}: {message}"


def test_every_key_is_in_the_table_above() -> None:
    """``headers``, ``sha256``, ``key``, ``api_key`` and the other prices have tests of their own."""
    apart = {"headers", "sha256", "key", "api_key", "group"} | {"output_per_million_usd", "cached_input_per_million_usd",
        "cache_write_per_million_usd", "cache_write_1h_per_million_usd", "audio_input_per_million_usd",
        "audio_output_per_million_usd", "web_search_per_thousand_usd", "factors"}  # fmt: skip
    names = {"providers": "mine", "groups": "crew", "models": "quick", "prices": "m", "keys": "mine"}
    every = {f"{t}.{a.name}" for t, cls in TABLES.items() for a in attrs.fields(cls)}
    every |= {f"{t}.{names[t]}.{a.name}" for t, cls in NAMED.items() for a in attrs.fields(cls) if a.name not in apart}

    assert every - {key for key, *_ in KEYS} == {"keys.mine.groups"}


def test_all_problems_of_all_places_are_told_at_once(toml: Toml) -> None:
    text = '[server]\nport = "x"\nprot = 1\n[nonsense]\n[providers.a]\nkind = "openai"\ntimeout_ms = "never"\n[groups.g]\nmembers = ["b"]\n'

    told = problems(toml(text), {"RETRY_JITTER": "maybe", "RUNESTONE_CONFIG": ""})

    assert [line.split(";")[0] for line in told] == [
        "runestone.toml:2: server.port: is not a whole number in range",
        "runestone.toml:3: server.prot: is not known",
        "env:RETRY_JITTER: is not a yes or no",
        "runestone.toml:7: providers.a.timeout_ms: is not a time in range",
        "runestone.toml:4: nonsense: is not known",
        "runestone.toml:9: groups.g.members: names a provider that is not there",
    ]
    assert "(did you mean port?)" in told[1]


def test_a_syntax_error_is_told_with_line_and_column(toml: Toml) -> None:
    assert problems(toml("[server]\nport = = 1\n")) == [
        "runestone.toml:2:8: is not TOML; got invalid value; allowed: TOML 1.0"
    ]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.toml"

    assert problems(path) == [
        f"flag:--config: cannot be read; got {path} (FileNotFoundError); allowed: a readable text file"
    ]


def test_a_table_and_a_circuit_breaker_of_its_own_are_mixed_key_by_key(toml: Toml) -> None:
    text = (
        "[circuit_breaker]\nfailure_threshold = 7\nhalf_open_limit = 2\n"
        + PROVIDER
        + "circuit_breaker = { failure_threshold = 10, recovery_timeout_ms = 120000 }\n"
    )
    breaker = at(loaded(toml(text)).settings, "providers/mine/breaker")

    assert (breaker.failure_threshold, breaker.recovery_timeout_seconds, breaker.half_open_limit) == (10, 120.0, 2)


def test_prices_are_exact(toml: Toml) -> None:
    text = (
        '[prices."gpt-4o-mini"]\ninput_per_million_usd = 0.15\noutput_per_million_usd = "0.60"\n'
        "cached_input_per_million_usd = 0.075\ncache_write_per_million_usd = 1\ncache_write_1h_per_million_usd = 2\n"
        "audio_input_per_million_usd = 10\naudio_output_per_million_usd = 20.5\nweb_search_per_thousand_usd = 25\n"
        'factors = { batch = 0.5, us = "1.10" }\n'
    )
    price = loaded(toml(text)).settings.prices["gpt-4o-mini"]

    dollars = [Decimal(text) for text in ("0.15", "0.60", "0.075", "1", "2", "10", "20.5", "25")]
    assert [*attrs.astuple(price)] == [*dollars, {"batch": Decimal("0.5"), "us": Decimal("1.10")}]
    assert problems(toml("[prices.m]\ninput_per_million_usd = 1\n")) == [
        "runestone.toml:1: prices.m: needs output_per_million_usd; got none; allowed: dollars for a million tokens"
    ]


@pytest.mark.parametrize(
    ("factors", "what"),
    [
        ("3", "prices.m.factors: is not a table of factors; got 3"),
        ("{ cheap = 1 }", "prices.m.factors.cheap: names no tier or region; got 'cheap'"),
        ("{ batch = -1 }", "prices.m.factors.batch: is not a factor; got -1"),
        ("{ batch = inf }", "prices.m.factors.batch: is not a factor; got inf"),
    ],
)
def test_a_factor_is_a_number_by_a_known_tier_or_region(toml: Toml, factors: str, what: str) -> None:
    text = f"[prices.m]\ninput_per_million_usd = 1\noutput_per_million_usd = 1\nfactors = {factors}\n"

    allowed = "numbers that are not negative by priority, fast, flex, scale, batch or us, such as { batch = 0.5 }"
    assert problems(toml(text)) == [f"runestone.toml:4: {what}; allowed: {allowed}"]


def test_names_that_would_mean_two_things_are_refused(toml: Toml) -> None:
    text = (
        '[providers.openai]\nkind = "openai"\napi_key = "k"\n[providers.both]\nkind = "openai"\napi_key = "k"\n'
        '[groups.both]\n[models]\nboth = "gpt-4o"\nloop = "loop"\n"a b" = "gpt-4o"\n[groups."a/b"]\n'
    )
    told = problems(toml(text))

    assert [line.split(";")[0] for line in told] == [
        "runestone.toml:9: models.both: is the name of a group or a provider",
        "runestone.toml:10: models.loop: stands for another alias",
        'runestone.toml:12: groups."a/b": is not a name',
        "runestone.toml:1: providers.openai: is named like a kind, a group or all of them",
        "runestone.toml:4: providers.both: is named like a kind, a group or all of them",
    ]


def test_all_is_nobody_s_name_and_no_group_is_named_like_a_kind(toml: Toml) -> None:
    told = problems(toml('[providers.all]\nkind = "openai"\napi_key = "k"\n[groups.openai]\n'))

    assert [line.split(";")[0] for line in told] == [
        "runestone.toml:1: providers.all: is named like a kind, a group or all of them",
        "runestone.toml:4: groups.openai: is named like a kind",
    ]


def test_a_group_names_who_is_there_everywhere(toml: Toml) -> None:
    text = (
        '[groups.g]\nmembers = ["openai-default"]\nweights = { openai-defualt = 2 }\n'
        'models = { m = { antropic = "x", openai = "y", openai-default = "z" } }\n'
    )
    told = problems(toml(text))

    nobody, known = "names a provider that is not there", "openai-default, anthropic-default"
    assert told == [
        f"runestone.toml:3: groups.g.weights: {nobody}; got 'openai-defualt'; allowed: {known} (did you mean openai-default?)",
        f"runestone.toml:4: groups.g.models.m: {nobody}; got 'antropic'; allowed: {known}, {', '.join(KINDS)} (did you mean anthropic?)",
    ]


def test_a_group_without_members_is_warned_about(toml: Toml) -> None:
    settings = loaded(toml("[groups.g]\nmembers = []\n"), {"OPENAI_API_KEY": "sk-a"}).settings

    assert settings.warnings == ("runestone.toml:1: groups.g: has no member: nobody serves what is asked of it",)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('keys = "sk-canary-1234567890"', "keys"),
        ('providers = "sk-canary-1234567890"', "providers"),
        ('[providers]\na = "sk-canary-1234567890"', "providers.a"),
        ('[providers.a]\nkind = "sk-canary-1234567890"', "providers.a.kind"),
        ('[groups.g]\nmembers = ["sk-canary-1234567890"]', "groups.g.members"),
        ('[groups.g]\nstrategy = "sk-canary-1234567890"', "groups.g.strategy"),
        ('[server]\nhost = 1\nmode = "sk-canary-1234567890"', "server.mode"),
        ('[server]\nport = "sk-canary-1234567890"', "server.port"),
        ('[providers.a]\napi_kye = "sk-canary-1234567890"', "providers.a.api_kye"),
    ],
)
def test_a_key_in_the_wrong_place_is_in_no_message(toml: Toml, text: str, where: str) -> None:
    told = "\n".join(problems(toml(text + "\n")))

    assert f": {where}: " in told
    assert "canary" not in told


def test_a_mistake_is_told_once(toml: Toml) -> None:
    assert problems(toml("[prices.m]\ninput_per_million_usd = nan\noutput_per_million_usd = 1\n")) == [
        "runestone.toml:2: prices.m.input_per_million_usd: is not a price; got nan; allowed: a number that is not negative"
    ]
    assert problems(toml('[providers.a]\nkind = "openai"\napi_key = "k"\nbase_url = "${NOWHERE:?say where}"\n')) == [
        "runestone.toml:4: providers.a.base_url: needs the variable NOWHERE: say where; got nothing; allowed: set NOWHERE, or write ${NOWHERE:-default}"
    ]


def test_a_provider_without_a_key_is_not_started_and_says_how_to_give_it_one(toml: Toml) -> None:
    text = '[providers.a]\nkind = "openai"\n[providers.b]\nkind = "openai"\napi_key = { env = "B_KEY" }\n[groups.g]\nmembers = ["a", "b"]\n'
    settings = loaded(toml(text)).settings

    assert [(r.name, r.code, r.message) for r in settings.refusals] == [
        ("openai-default", "missing_api_key", "set OPENAI_API_KEY, or OPENAI_API_KEY_FILE"),
        ("anthropic-default", "missing_api_key", "set ANTHROPIC_API_KEY, or ANTHROPIC_API_KEY_FILE"),
        ("a", "missing_api_key", "set providers.a.api_key"),
        ("b", "missing_api_key", "set B_KEY"),
    ]
    assert at(settings, "groups/g/providers") == ()


def test_a_secret_is_taken_from_the_place_that_is_named(toml: Toml, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-file\n")
    (tmp_path / "credential").write_text("sk-credential")
    text = "".join(
        f'[providers.{name}]\nkind = "openai"\napi_key = {place}\n'
        for name, place in {
            "a": '{ env = "A_KEY" }',
            "b": f'{{ file = "{tmp_path}/key" }}',
            "c": '{ credential = "credential" }',
            "d": '"${A_KEY}"',
        }.items()
    )
    settings = loaded(toml(text), {"A_KEY": "sk-env", "CREDENTIALS_DIRECTORY": str(tmp_path)}).settings

    keys = [p.api_key.reveal() for p in settings.providers if p.api_key]
    assert keys == ["sk-env", "sk-file", "sk-credential", "sk-env"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ('{ file = "/nowhere/key" }', "cannot be read; got /nowhere/key (FileNotFoundError); allowed: a readable text file"),
        ('{ credential = "x" }', "names a credential; got no CREDENTIALS_DIRECTORY; allowed: a service that systemd gives credentials"),
        ('{ vault = "x" }', "is no place of a secret; got a table with vault; allowed: one of env, file, credential"),
        ('["sk-canary"]', "is not a secret; got no text; allowed: the key alone, or { env"),
        ('"sk canary"', "cannot be a key; got white space or other than ASCII in it; allowed: the key alone"),
    ],
)  # fmt: skip
def test_a_place_without_a_secret_is_told(toml: Toml, place: str, message: str) -> None:
    told = problems(toml(f'[providers.a]\nkind = "openai"\napi_key = {place}\n'))

    assert len(told) == 1
    assert told[0].startswith(f"runestone.toml:3: providers.a.api_key: {message}")


def test_texts_are_interpolated_and_keys_are_not(toml: Toml) -> None:
    text = (
        PROVIDER
        + 'base_url = "${URL:-http://127.0.0.1:1/v1}"\ndefault_model = "$$${MODEL}"\nheaders = { "x-a" = "${A:-}" }\n'
    )

    provider = at(loaded(toml(text), {"MODEL": "m"}).settings, "providers/mine")

    assert (provider.base_url, provider.default_model, provider.headers) == ("http://127.0.0.1:1/v1", "$m", {"x-a": ""})
    assert problems(toml('[server]\nhost = "${HOST_}"\n'))[0].startswith(
        "runestone.toml:2: server.host: needs the variable HOST_; got nothing; allowed: set HOST_"
    )
    assert "needs the variable HOST_: ask Ann" in problems(toml('[server]\nhost = "${HOST_:?ask Ann}"\n'))[0]


def test_keys_of_clients_stand_in_the_file_as_text_or_digest(toml: Toml) -> None:
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    text = (
        f'[groups.g]\n[keys.a]\nkey = "test"\n[keys.b]\nsha256 = "{digest}"\ngroups = ["g", "default-chat-service"]\n'
    )

    a, b = loaded(toml(text)).settings.auth.keys

    assert a.digest == b.digest == bytes.fromhex(digest)
    assert (a.groups, b.groups) == ((), ("g", "default-chat-service"))
    assert problems(toml('[keys.a]\n[keys.b]\nkey = "k"\ngroups = ["nobody"]\n[keys.c]\nsha256 = "sk-canary"\n')) == [
        "runestone.toml:6: keys.c.sha256: is not a SHA-256; got something else; allowed: 64 hexadecimal digits",
        "runestone.toml:1: keys.a: needs either key or sha256; got none; allowed: one of them",
        (
            "runestone.toml:4: keys.b.groups: names a group that is not there; got 'nobody'; "
            "allowed: 'cost-optimized-service', 'default-chat-service'"
        ),
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[providers.a]\nkind = "openai"\napi_key = {0}\n',
        '[providers.a]\nkind = "openai"\napi_key = [{0}]\n',
        '[providers.a]\nkind = "openai"\napi_key = {{ env = {0}, x = 1 }}\n',
        '[providers.a]\nkind = "openai"\napi_key = {{ file = {0} }}\n',
        '[providers.a]\nkind = "openai"\napi_key = "k"\nheaders = {{ authorization = {0} }}\n',
        '[providers.a]\nkind = "openai"\napi_key = "k"\nheaders = [{0}]\n',
        '[providers.a]\nkind = "openai"\napi_key = "k"\nheaders = {{ authorization = [{0}] }}\n',
        '[providers.a]\nkind = "openai"\napi_key = "k"\nbase_url = {0}\n',
        '[providers.a]\nkind = "openai"\napi_key = "k"\nmodels = {{ a = {0} }}\n',
        "[keys.a]\nkey = {0}\n",
        "[keys.a]\nsha256 = {0}\n",
        "[keys]\na = [{0}]\n",
        "[providers]\na = [{0}]\n",
    ],
)
def test_no_secret_is_in_any_message_or_rendering(toml: Toml, text: str) -> None:
    path = toml(text.format('"sk-hunter2hunter2"'))
    try:
        found = loaded(path)
        shown = repr(found) + repr([(e.key, e.shown, e.origin) for e in found.entries])
    except ConfigurationError as error:
        shown = str(error) + repr(error.problems)

    assert "hunter2" not in shown


def test_a_key_in_a_file_that_others_can_read_is_warned_of(toml: Toml) -> None:
    path = toml(PROVIDER)
    assert loaded(path).settings.warnings == ()

    path.chmod(0o644)

    assert loaded(path).settings.warnings == (
        "runestone.toml:3: providers.mine.api_key: a key in a file that others can read; chmod 600 it, or name the key's place",
    )


def test_what_is_odd_is_warned_of_with_its_line(toml: Toml) -> None:
    text = PROVIDER.replace("sk-mine", "your_openai_api_key") + 'timeout_ms = 120\nbase_url = "http://example.com/v1"\n'

    assert set(loaded(toml(text)).settings.warnings) == {
        "runestone.toml:3: providers.mine.api_key: looks like a placeholder; put the real key in its place",
        "runestone.toml:4: providers.mine.timeout_ms: 120 ms is very short; did you mean seconds? The unit is milliseconds",
        "runestone.toml:5: providers.mine.base_url: keys and prompts go over plain http to example.com",
    }


def test_a_wrong_value_that_a_variable_hides_is_told_all_the_same(toml: Toml) -> None:
    assert problems(toml('[failover]\nstrategy = "x"\n'), {"FAILOVER_STRATEGY": "priority"}) == [
        f"runestone.toml:2: failover.strategy: is not known; got 'x'; allowed: {STRATEGIES}"
    ]


def test_a_provider_of_no_kind_is_a_mistake_and_told_once(toml: Toml) -> None:
    assert problems(toml('[providers.a]\napi_key = "k"\n')) == [
        f"runestone.toml:1: providers.a: needs a kind; got none; allowed: kind = one of {', '.join(KINDS)}"
    ]
    assert len(problems(toml('[providers.a]\nkind = "opena"\napi_key = "k"\n'))) == 1


def test_a_file_s_provider_may_be_named_like_a_key_and_is_mixed_all_the_same(toml: Toml) -> None:
    path = toml('[providers.key]\nkind = "openai"\napi_key = "k"\n')
    found = build(read({}, path), {"providers": {"key": {"timeout_ms": 5000}}}).settings

    assert at(found, "providers/key").timeout_seconds == 5.0


def test_a_provider_named_as_a_check_names_its_own_serves_only_groups_that_name_it(toml: Toml) -> None:
    text = PROVIDER + PROVIDER.replace("mine", "check-mine") + "retry_attempts = 9\n"
    found = loaded(
        toml(text + '[groups.check-group]\nmembers = ["check-mine"]\nmax_attempts = 8\n[groups.all]\n')
    ).settings

    members = {group.name: group.providers for group in found.groups}
    assert members == {
        "default-chat-service": ("mine",),
        "cost-optimized-service": ("mine",),
        "check-group": ("check-mine",),
        "all": ("mine",),
    }
    assert found.max_upstream_calls == 4
    assert [w for w in found.warnings if "providers.check-mine: serves only groups that name it" in w] != []
