"""Each variable of the contract: its default, its valid forms, and the exact message for each invalid one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.config.load import load
from runestone.config.settings import ConfigurationError, InboundKey, ProviderRefusal, Settings

KEYS = {"OPENAI_API_KEY": "sk-openai", "ANTHROPIC_API_KEY": "sk-anthropic"}
TIME = 'milliseconds such as 120000, or "120s"; from 1 ms to 24 h'
TIME_OR_NONE = 'milliseconds such as 120000, or "120s"; from 0 ms to 24 h'
STRATEGIES = "round_robin, priority, load_balanced, fastest_first, health_aware, cost_optimized"
LOOPBACK = "allowed: a loopback address, or set RUNESTONE_API_KEYS"
ADDRESS = "http(s)://host[:port]/path without user, query and fragment"


def problems(environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        load(environ)
    return [str(problem) for problem in raised.value.problems]


def at(path: str) -> Callable[[Settings], Any]:
    """The setting at ``path``, such as ``providers.0.timeout_seconds``."""

    def step(value: Any, name: str) -> Any:
        return value[int(name)] if name.isdigit() else getattr(value, name)

    return lambda settings: reduce(step, path.split("."), settings)


DEFAULTS: list[tuple[str, str, Any]] = [
    ("OPENAI_BASE_URL", "providers.0.base_url", "https://api.openai.com/v1"),
    ("ANTHROPIC_BASE_URL", "providers.1.base_url", "https://api.anthropic.com/v1"),
    ("OPENAI_TIMEOUT", "providers.0.timeout_seconds", 120.0),
    ("ANTHROPIC_TIMEOUT", "providers.1.timeout_seconds", 120.0),
    ("OPENAI_RETRY_ATTEMPTS", "providers.0.retry.max_attempts", 3),
    ("ANTHROPIC_RETRY_ATTEMPTS", "providers.1.retry.max_attempts", 3),
    ("OPENAI_CIRCUIT_BREAKER", "providers.0.circuit_breaker", True),
    ("ANTHROPIC_CIRCUIT_BREAKER", "providers.1.circuit_breaker", True),
    ("FAILOVER_STRATEGY", "groups.0.strategy", "round_robin"),
    ("FAILOVER_MAX_ATTEMPTS", "groups.0.max_attempts", 3),
    ("FAILOVER_HEALTH_THRESHOLD", "groups.0.health_threshold", 0.7),
    ("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "providers.0.breaker.failure_threshold", 5),
    ("CIRCUIT_BREAKER_RECOVERY_TIMEOUT", "providers.0.breaker.recovery_timeout_seconds", 60.0),
    ("RETRY_MAX_ATTEMPTS", "providers.0.retry.max_attempts", 3),
    ("RETRY_BASE_DELAY_MS", "providers.0.retry.base_delay_seconds", 1.0),
    ("RETRY_BACKOFF_FACTOR", "providers.0.retry.factor", 2.0),
    ("RETRY_JITTER", "providers.0.retry.jitter", True),
    ("RUNESTONE_HOST", "server.host", "127.0.0.1"),
    ("RUNESTONE_PORT", "server.port", 4003),
    ("RUNESTONE_HEALTH_PORT", "server.health_port", 4004),
    ("RUNESTONE_API_KEYS", "auth.keys", ()),
    ("RUNESTONE_REQUEST_DEADLINE_MS", "timeouts.request_deadline_seconds", 600.0),
    ("RUNESTONE_FIRST_TOKEN_TIMEOUT_MS", "timeouts.first_token_seconds", 30.0),
    ("RUNESTONE_IDLE_TIMEOUT_MS", "timeouts.idle_seconds", 30.0),
    ("RUNESTONE_CONNECT_TIMEOUT_MS", "timeouts.connect_seconds", 5.0),
    ("RUNESTONE_DRAIN_TIMEOUT_MS", "server.drain_timeout_seconds", 30.0),
    ("RUNESTONE_BODY_LIMIT_BYTES", "server.body_limit_bytes", 32 * 1024 * 1024),
    ("RUNESTONE_BODY_TIMEOUT_MS", "server.body_timeout_seconds", 30.0),
    ("RUNESTONE_MAX_UPSTREAM_CALLS", "max_upstream_calls", 4),
    ("RUNESTONE_PROVIDER_MODE", "server.mode", "enhanced"),
    ("RUNESTONE_LOG_LEVEL", "logs.level", "INFO"),
    ("RUNESTONE_LOG_FORMAT", "logs.format", "auto"),
]
VALID: list[tuple[str, str, str, Any]] = [
    ("OPENAI_BASE_URL", "http://localhost:8080/v1/", "providers.0.base_url", "http://localhost:8080/v1"),
    ("OPENAI_BASE_URL", "HTTPS://proxy.example", "providers.0.base_url", "HTTPS://proxy.example"),
    ("ANTHROPIC_BASE_URL", "https://proxy.example", "providers.1.base_url", "https://proxy.example/v1"),
    ("ANTHROPIC_BASE_URL", "https://proxy.example/", "providers.1.base_url", "https://proxy.example/v1"),
    ("ANTHROPIC_BASE_URL", "https://proxy.example/api", "providers.1.base_url", "https://proxy.example/api"),
    ("OPENAI_TIMEOUT", "30000", "providers.0.timeout_seconds", 30.0),
    ("OPENAI_TIMEOUT", "120s", "providers.0.timeout_seconds", 120.0),
    ("OPENAI_TIMEOUT", '"120s"', "providers.0.timeout_seconds", 120.0),
    ("OPENAI_TIMEOUT", "1500ms", "providers.0.timeout_seconds", 1.5),
    ("OPENAI_TIMEOUT", "1.5s", "providers.0.timeout_seconds", 1.5),
    ("OPENAI_TIMEOUT", "2m", "providers.0.timeout_seconds", 120.0),
    ("OPENAI_TIMEOUT", "1h", "providers.0.timeout_seconds", 3600.0),
    ("ANTHROPIC_TIMEOUT", " 45000 ", "providers.1.timeout_seconds", 45.0),
    ("OPENAI_RETRY_ATTEMPTS", "1", "providers.0.retry.max_attempts", 1),
    ("ANTHROPIC_RETRY_ATTEMPTS", "7", "providers.1.retry.max_attempts", 7),
    ("OPENAI_CIRCUIT_BREAKER", "false", "providers.0.circuit_breaker", False),
    ("ANTHROPIC_CIRCUIT_BREAKER", "Off", "providers.1.circuit_breaker", False),
    ("OPENAI_CIRCUIT_BREAKER", "yes", "providers.0.circuit_breaker", True),
    *[("FAILOVER_STRATEGY", name, "groups.0.strategy", name) for name in STRATEGIES.split(", ")],
    ("FAILOVER_STRATEGY", "PRIORITY", "groups.0.strategy", "priority"),
    ("FAILOVER_MAX_ATTEMPTS", "1", "groups.1.max_attempts", 1),
    ("FAILOVER_HEALTH_THRESHOLD", "0", "groups.0.health_threshold", 0.0),
    ("FAILOVER_HEALTH_THRESHOLD", "1", "groups.1.health_threshold", 1.0),
    ("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "1", "providers.1.breaker.failure_threshold", 1),
    ("CIRCUIT_BREAKER_RECOVERY_TIMEOUT", "1500", "providers.1.breaker.recovery_timeout_seconds", 1.5),
    ("RETRY_MAX_ATTEMPTS", "5", "providers.1.retry.max_attempts", 5),
    ("RETRY_BASE_DELAY_MS", "0", "providers.0.retry.base_delay_seconds", 0.0),
    ("RETRY_BACKOFF_FACTOR", "1.5", "providers.0.retry.factor", 1.5),
    ("RETRY_JITTER", "0", "providers.1.retry.jitter", False),
    ("RUNESTONE_HOST", "localhost", "server.host", "localhost"),
    ("RUNESTONE_HOST", "127.0.0.2", "server.host", "127.0.0.2"),
    ("RUNESTONE_HOST", "::1", "server.host", "::1"),
    ("RUNESTONE_PORT", "0", "server.port", 0),
    ("RUNESTONE_HEALTH_PORT", "65535", "server.health_port", 65535),
    ("RUNESTONE_ADMIN_SOCKET", "/run/x.sock", "server.admin_socket", Path("/run/x.sock")),
    ("RUNESTONE_OBSERVE_GROUP", "operators", "server.observe_group", "operators"),
    ("RUNESTONE_REQUEST_DEADLINE_MS", "5000", "timeouts.request_deadline_seconds", 5.0),
    ("RUNESTONE_FIRST_TOKEN_TIMEOUT_MS", "10s", "timeouts.first_token_seconds", 10.0),
    ("RUNESTONE_IDLE_TIMEOUT_MS", "10000", "timeouts.idle_seconds", 10.0),
    ("RUNESTONE_CONNECT_TIMEOUT_MS", "250", "timeouts.connect_seconds", 0.25),
    ("RUNESTONE_DRAIN_TIMEOUT_MS", "0", "server.drain_timeout_seconds", 0.0),
    ("RUNESTONE_BODY_LIMIT_BYTES", "1000", "server.body_limit_bytes", 1000),
    ("RUNESTONE_BODY_TIMEOUT_MS", "5s", "server.body_timeout_seconds", 5.0),
    ("RUNESTONE_MAX_UPSTREAM_CALLS", "9", "max_upstream_calls", 9),
    ("RUNESTONE_PROVIDER_MODE", "legacy", "server.mode", "legacy"),
    ("RUNESTONE_LOG_LEVEL", "debug", "logs.level", "DEBUG"),
    ("RUNESTONE_LOG_FORMAT", "json", "logs.format", "json"),
]


def wrong_times(*names: str, allowed: str = TIME) -> list[tuple[str, str, str]]:
    texts = [
        "soon",
        "-1",
        "1.5",
        "1e3",
        "120 s",
        "10d",
        "٣",
        "999999999999",
        "25h",
        *(["0"] if allowed is TIME else []),
    ]
    return [
        (n, text, f"env:{n}: is not a time in range; got {text!r}; allowed: {allowed}") for n in names for text in texts
    ]


def wrong_numbers(
    texts: list[str], allowed: str, *names: str, what: str = "a whole number"
) -> list[tuple[str, str, str]]:
    return [
        (n, text, f"env:{n}: is not {what} in range; got {text!r}; allowed: {allowed}") for n in names for text in texts
    ]


def wrong_flags(*names: str) -> list[tuple[str, str, str]]:
    return [(n, "maybe", f"env:{n}: is not a yes or no; got 'maybe'; allowed: true or false") for n in names]


def wrong_address(text: str, shown: str) -> tuple[str, str, str]:
    return (
        "OPENAI_BASE_URL",
        text,
        f"env:OPENAI_BASE_URL: is not a usable address; got {shown!r}; allowed: {ADDRESS}",
    )


INVALID: list[tuple[str, str, str]] = [
    *wrong_times(
        "OPENAI_TIMEOUT",
        "ANTHROPIC_TIMEOUT",
        "CIRCUIT_BREAKER_RECOVERY_TIMEOUT",
        "RUNESTONE_REQUEST_DEADLINE_MS",
        "RUNESTONE_FIRST_TOKEN_TIMEOUT_MS",
        "RUNESTONE_IDLE_TIMEOUT_MS",
        "RUNESTONE_CONNECT_TIMEOUT_MS",
        "RUNESTONE_BODY_TIMEOUT_MS",
    ),
    *wrong_times("RETRY_BASE_DELAY_MS", "RUNESTONE_DRAIN_TIMEOUT_MS", allowed=TIME_OR_NONE),
    *wrong_numbers(
        ["0", "101", "-1", "three", "2.0", "1_0", "٣"],
        "1 to 100",
        "OPENAI_RETRY_ATTEMPTS",
        "ANTHROPIC_RETRY_ATTEMPTS",
        "RETRY_MAX_ATTEMPTS",
        "FAILOVER_MAX_ATTEMPTS",
        "RUNESTONE_MAX_UPSTREAM_CALLS",
    ),
    *wrong_numbers(["0", "x"], "1 to 10000", "CIRCUIT_BREAKER_FAILURE_THRESHOLD"),
    *wrong_numbers(["-1", "65536", "http"], "0 to 65535", "RUNESTONE_PORT", "RUNESTONE_HEALTH_PORT"),
    *wrong_numbers(["0", "32MB"], "1 to 1073741824", "RUNESTONE_BODY_LIMIT_BYTES"),
    *wrong_numbers(["-0.1", "1.1", "nan", "inf", "70%"], "0 to 1", "FAILOVER_HEALTH_THRESHOLD", what="a number"),
    *wrong_numbers(["0.9", "101", "nan", "two"], "1 to 100", "RETRY_BACKOFF_FACTOR", what="a number"),
    *wrong_flags("OPENAI_CIRCUIT_BREAKER", "ANTHROPIC_CIRCUIT_BREAKER", "RETRY_JITTER"),
    (
        "FAILOVER_STRATEGY",
        "round-robin",
        f"env:FAILOVER_STRATEGY: is not known; got 'round-robin'; allowed: {STRATEGIES} (did you mean round_robin?)",
    ),
    ("FAILOVER_STRATEGY", "x", f"env:FAILOVER_STRATEGY: is not known; got 'x'; allowed: {STRATEGIES}"),
    (
        "RUNESTONE_PROVIDER_MODE",
        "legaci",
        "env:RUNESTONE_PROVIDER_MODE: is not known; got 'legaci'; allowed: enhanced, legacy (did you mean legacy?)",
    ),
    (
        "RUNESTONE_LOG_LEVEL",
        "loud",
        "env:RUNESTONE_LOG_LEVEL: is not known; got 'loud'; allowed: TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL",
    ),
    (
        "RUNESTONE_LOG_FORMAT",
        "jsno",
        "env:RUNESTONE_LOG_FORMAT: is not known; got 'jsno'; allowed: auto, json, pretty (did you mean json?)",
    ),
    (
        "RUNESTONE_CONFIG",
        "/etc/runestone.toml",
        "env:RUNESTONE_CONFIG: cannot be read; got /etc/runestone.toml (FileNotFoundError); allowed: a readable text file",
    ),
    (
        "RUNESTONE_HEALTH_PORT",
        "4003",
        "env:RUNESTONE_HEALTH_PORT: is the API's port too; got 4003; allowed: another port, or 0 for a free one",
    ),
    *[
        (
            "RUNESTONE_HOST",
            host,
            f"env:RUNESTONE_HOST: would serve other machines without any key; got {host!r}; {LOOPBACK}",
        )
        for host in ("0.0.0.0", "::", "192.168.1.5", "gateway.example")
    ],
    wrong_address("ftp://api.openai.com/v1", "ftp://api.openai.com/v1"),
    wrong_address("https://", "https://"),
    wrong_address("https://api.openai.com:99999/v1", "https://api.openai.com:99999/v1"),
    wrong_address("https://api.openai.com:0/v1", "https://api.openai.com:0/v1"),
    wrong_address("https://api open.com/v1", "https://api open.com/v1"),
    wrong_address("https://[::1/v1", "https://[::1/v1"),
    wrong_address("https://me:hunter2@api.openai.com/v1", "https://***@api.openai.com/v1"),
    wrong_address("https://me:hun/ter2@api.openai.com/v1", "https://***@api.openai.com/v1"),
    wrong_address("https://me@hunter2@api.openai.com/v1", "https://***@api.openai.com/v1"),
    wrong_address("https://api.openai.com/v1?key=hunter2", "https://api.openai.com/v1"),
    wrong_address("https://api.openai.com/v1#hunter2", "https://api.openai.com/v1"),
    wrong_address("sk-hunter2", "***"),
]


@pytest.mark.parametrize(("name", "path", "value"), DEFAULTS)
@pytest.mark.parametrize("unset", [{}, {"": ""}, {"": "  "}, {"_FILE": ""}], ids=["unset", "empty", "blank", "no file"])
def test_unset_or_empty_it_has_its_default(name: str, path: str, value: Any, unset: dict[str, str]) -> None:
    settings = load({**KEYS, **{name + suffix: text for suffix, text in unset.items()}})

    assert at(path)(settings) == value


@pytest.mark.parametrize(("name", "text", "path", "value"), VALID)
def test_a_valid_form_is_taken(name: str, text: str, path: str, value: Any) -> None:
    assert at(path)(load({**KEYS, name: text})) == value


@pytest.mark.parametrize(("name", "text", "path", "value"), VALID)
def test_the_same_from_a_file(name: str, text: str, path: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text(f"{text}\n")

    assert at(path)(load({**KEYS, f"{name}_FILE": str(file)})) == value


@pytest.mark.parametrize(("name", "text", "message"), INVALID)
def test_an_invalid_form_is_told_with_what_was_got_and_what_is_allowed(name: str, text: str, message: str) -> None:
    assert problems({**KEYS, name: text}) == [message]


def test_every_variable_is_tried() -> None:
    settable = {
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "RUNESTONE_API_KEYS_FILE",
        "RUNESTONE_CONFIG",
        "RUNESTONE_ADMIN_SOCKET",
    }

    assert len({name for name, *_ in DEFAULTS} | settable) == 19 + 18


def test_all_problems_are_told_at_once() -> None:
    found = problems({**KEYS, "OPENAI_TIMEOUT": "soon", "RETRY_JITTER": "maybe", "RUNESTONE_PORT": "http"})

    assert [p.split(": ")[0] for p in found] == ["env:RUNESTONE_PORT", "env:RETRY_JITTER", "env:OPENAI_TIMEOUT"]


# -- provider keys -------------------------------------------------------------------------------------------------------


def test_a_provider_without_a_key_is_not_started_and_says_which_variable_to_set() -> None:
    settings = load({"ANTHROPIC_API_KEY": "sk-a"})

    assert [p.name for p in settings.providers] == ["anthropic-default"]
    assert settings.refusals == (
        ProviderRefusal("openai-default", "missing_api_key", "set OPENAI_API_KEY, or OPENAI_API_KEY_FILE"),
    )


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": " "}])
def test_without_any_key_the_settings_stand_all_the_same(environ: dict[str, str]) -> None:
    settings = load(environ)

    assert settings.providers == ()
    assert [(r.name, r.code) for r in settings.refusals] == [
        ("openai-default", "missing_api_key"),
        ("anthropic-default", "missing_api_key"),
    ]
    assert [g.name for g in settings.groups] == ["default-chat-service", "cost-optimized-service"]


def test_a_key_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(" sk-from-a-file\n\n")

    key = load({"OPENAI_API_KEY_FILE": str(file)}).providers[0].api_key

    assert key is not None
    assert key.reveal() == "sk-from-a-file"


@pytest.mark.parametrize("key", ["sk- x", "sk-é", "sk-\tx", "sk-\x00x", "first\nsecond"])
def test_what_cannot_be_sent_as_a_key_is_refused_without_showing_it(key: str) -> None:
    assert problems({**KEYS, "OPENAI_API_KEY": key}) == [
        "env:OPENAI_API_KEY: cannot be a key; got white space or other than ASCII in it; allowed: the key alone"
    ]


def test_a_value_and_its_file_together_are_one_too_many(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-b")

    assert problems({**KEYS, "OPENAI_API_KEY_FILE": str(file)}) == [
        "env:OPENAI_API_KEY: is set twice; got both OPENAI_API_KEY and OPENAI_API_KEY_FILE; allowed: one of them"
    ]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "missing"

    assert problems({"OPENAI_API_KEY_FILE": str(path)}) == [
        f"env:OPENAI_API_KEY_FILE: cannot be read; got {path} (FileNotFoundError); allowed: a readable text file"
    ]


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe")

    assert problems({"OPENAI_TIMEOUT_FILE": str(path), **KEYS}) == [
        f"env:OPENAI_TIMEOUT_FILE: cannot be read; got {path} (UnicodeDecodeError); allowed: a readable text file"
    ]


def test_a_key_that_was_put_where_a_path_belongs_is_not_shown() -> None:
    assert problems({"OPENAI_API_KEY_FILE": "sk-hunter2"}) == [
        "env:OPENAI_API_KEY_FILE: cannot be read; got a path that is not absolute (FileNotFoundError); allowed: a readable text file"
    ]


# -- inbound keys --------------------------------------------------------------------------------------------------------


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def test_inbound_keys_are_a_comma_list_kept_as_digests() -> None:
    keys = load({"RUNESTONE_API_KEYS": " one, two ,,three,"}).auth.keys

    assert keys == (
        InboundKey("key1", digest("one")),
        InboundKey("key2", digest("two")),
        InboundKey("key3", digest("three")),
    )


def test_a_file_of_inbound_keys_has_a_name_and_a_key_or_its_digest_a_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\nweb:one\n batch : {digest('two').hex().upper()} \nodd:a:b\n")

    keys = load({"RUNESTONE_API_KEYS_FILE": str(file), "RUNESTONE_API_KEYS": "zero"}).auth.keys

    assert keys == (
        InboundKey("key1", digest("zero")),
        InboundKey("web", digest("one")),
        InboundKey("batch", digest("two")),
        InboundKey("odd", digest("a:b")),
    )


def test_a_line_that_is_no_key_is_told_by_its_number_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("web:one\nhunter2\n:hunter2\nname:\n")

    assert problems({"RUNESTONE_API_KEYS_FILE": str(file)}) == [
        f"env:RUNESTONE_API_KEYS_FILE: line {n} is not a key; got no name:key; allowed: name:key, or name:sha256 in hex"
        for n in (2, 3, 4)
    ]


@pytest.mark.parametrize("text", ["", "\n", "# none yet\n"])
def test_a_file_without_a_key_does_not_open_the_node(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(text)

    assert problems({"RUNESTONE_API_KEYS_FILE": str(file)}) == [
        "env:RUNESTONE_API_KEYS_FILE: holds no key; got a file without any; allowed: name:key, or name:sha256 in hex"
    ]


def test_commas_alone_do_not_open_the_node() -> None:
    assert problems({"RUNESTONE_API_KEYS": " , "}) == [
        "env:RUNESTONE_API_KEYS: holds no key; got commas alone; allowed: keys with commas between them"
    ]


def test_a_file_of_keys_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "missing"

    assert problems({"RUNESTONE_API_KEYS_FILE": str(path)}) == [
        f"env:RUNESTONE_API_KEYS_FILE: cannot be read; got {path} (FileNotFoundError); allowed: a readable text file"
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_with_inbound_keys_every_address_may_be_served(host: str) -> None:
    assert load({"RUNESTONE_HOST": host, "RUNESTONE_API_KEYS": "one"}).server.host == host


# -- what settings make of each other ------------------------------------------------------------------------------------


def test_a_provider_has_its_own_number_of_attempts_else_the_general_one() -> None:
    settings = load({**KEYS, "RETRY_MAX_ATTEMPTS": "2", "OPENAI_RETRY_ATTEMPTS": "4"})

    assert [p.retry.max_attempts for p in settings.providers] == [4, 2]


@pytest.mark.parametrize("name", ["RETRY_MAX_ATTEMPTS", "ANTHROPIC_RETRY_ATTEMPTS", "FAILOVER_MAX_ATTEMPTS"])
def test_a_retry_or_failover_setting_above_the_upstream_calls_raises_them(name: str) -> None:
    assert load({**KEYS, name: "6"}).max_upstream_calls == 6
    assert load({**KEYS, name: "6", "RUNESTONE_MAX_UPSTREAM_CALLS": "9"}).max_upstream_calls == 9


def test_both_groups_hold_all_providers_and_only_one_looks_at_the_price() -> None:
    groups = load({**KEYS, "FAILOVER_STRATEGY": "priority"}).groups

    assert [(g.name, g.strategy) for g in groups] == [
        ("default-chat-service", "priority"),
        ("cost-optimized-service", "cost_optimized"),
    ]
    assert {g.providers for g in groups} == {("openai-default", "anthropic-default")}


def test_a_breaker_waits_for_a_probe_longer_than_the_call_may_take() -> None:
    provider = load({**KEYS, "OPENAI_TIMEOUT": "600s"}).providers[0]

    assert provider.breaker.probe_deadline_seconds > provider.timeout_seconds == 600.0


def test_a_free_port_for_both_is_no_conflict() -> None:
    server = load({"RUNESTONE_PORT": "0", "RUNESTONE_HEALTH_PORT": "0"}).server

    assert (server.port, server.health_port) == (0, 0)


# -- warnings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["OPENAI_TIMEOUT", "ANTHROPIC_TIMEOUT"])
def test_a_timeout_under_a_second_asks_whether_seconds_were_meant(name: str) -> None:
    assert load({**KEYS, name: "120"}).warnings == (
        f"env:{name}: 120 ms is very short; did you mean seconds? The unit is milliseconds",
    )
    assert load({**KEYS, name: "1000"}).warnings == ()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RUNESTONE_PROT", "; did you mean RUNESTONE_PORT?"),
        ("RUNESTONE_API_KEY", "; did you mean RUNESTONE_API_KEYS?"),
        ("RUNESTONE_QQQQQQQQQQQQQQQQ", ""),
    ],
)
def test_a_name_that_is_no_setting_is_told_with_the_nearest_that_is(name: str, hint: str) -> None:
    assert load({name: "hunter2"}).warnings == (f"env:{name}: no such setting{hint}",)


def test_names_of_others_are_nobodys_business() -> None:
    assert load({"PATH": "/bin", "OPENAI_ORG": "x", "RUNE": "y"}).warnings == ()


def test_plain_http_to_another_machine_is_told_and_to_this_one_not() -> None:
    assert load({**KEYS, "OPENAI_BASE_URL": "http://10.0.0.1/v1"}).warnings == (
        "env:OPENAI_BASE_URL: keys and prompts go over plain http to 10.0.0.1",
    )
    assert load({**KEYS, "OPENAI_BASE_URL": "http://127.0.0.1/v1"}).warnings == ()


# -- demo ----------------------------------------------------------------------------------------------------------------


def test_demo_looks_at_no_key_and_no_address_of_a_real_provider() -> None:
    environ = {
        "OPENAI_API_KEY": "sk-real",
        "ANTHROPIC_API_KEY_FILE": "/nowhere",
        "OPENAI_BASE_URL": "https://real.example/v1",
    }

    settings = load(environ, demo=True)

    assert [p.name for p in settings.providers] == ["openai-default", "anthropic-default"]
    assert {p.api_key.reveal() for p in settings.providers if p.api_key} == {"sk-simulated"}
    assert settings.refusals == ()
    assert "real.example" not in repr(settings)


# -- secrets -------------------------------------------------------------------------------------------------------------

NAMES = sorted({name for name, *_ in DEFAULTS} | set(KEYS) | {"RUNESTONE_API_KEYS_FILE", "RUNESTONE_ADMIN_SOCKET"})
HUNTER = st.sampled_from(["{}", "{} x", "é{}", "https://me:{}@host/v1", "https://host/?k={}", ",", "{},{}"])


@given(st.dictionaries(st.sampled_from(["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "RUNESTONE_API_KEYS", "OPENAI_BASE_URL",
    "OPENAI_API_KEY_FILE", "RUNESTONE_API_KEYS_FILE", "ANTHROPIC_BASE_URL"]), HUNTER))  # fmt: skip
def test_no_secret_is_in_any_message_or_rendering(forms: dict[str, str]) -> None:
    environ = {name: form.replace("{}", "sk-hunter2hunter2") for name, form in forms.items()}
    try:
        shown = repr(load(environ))
    except ConfigurationError as error:
        shown = str(error) + repr(error) + repr(error.problems)

    assert "hunter2" not in shown


@given(st.dictionaries(st.sampled_from(NAMES), st.text(st.characters(exclude_characters="\x00"), max_size=20)))
def test_whatever_the_environment_holds_it_is_settings_or_problems(environ: dict[str, str]) -> None:
    try:
        load(environ)
    except ConfigurationError as error:
        found = error.problems
    else:
        return

    assert found
    assert all(str(problem).startswith("env:") for problem in found)


# -- the migration guide's blocks ---------------------------------------------------------------------------------------------

GUIDE = {
    "1.2": """
        OPENAI_API_KEY=your_openai_api_key
        OPENAI_BASE_URL=https://api.openai.com/v1
        OPENAI_TIMEOUT=120000
        OPENAI_RETRY_ATTEMPTS=3
        OPENAI_CIRCUIT_BREAKER=true
        ANTHROPIC_API_KEY=your_anthropic_api_key
        ANTHROPIC_BASE_URL=https://api.anthropic.com/v1
        ANTHROPIC_TIMEOUT=120000
        ANTHROPIC_RETRY_ATTEMPTS=3
        ANTHROPIC_CIRCUIT_BREAKER=true
        FAILOVER_STRATEGY=round_robin
        FAILOVER_MAX_ATTEMPTS=3
        FAILOVER_HEALTH_THRESHOLD=0.7
        CIRCUIT_BREAKER_FAILURE_THRESHOLD=5
        CIRCUIT_BREAKER_RECOVERY_TIMEOUT=60000
        RETRY_MAX_ATTEMPTS=3
        RETRY_BASE_DELAY_MS=1000
        RETRY_BACKOFF_FACTOR=2.0
        RETRY_JITTER=true""",
    "aggressive retries": "RETRY_MAX_ATTEMPTS=5 RETRY_BASE_DELAY_MS=500 RETRY_BACKOFF_FACTOR=1.5",
    "conservative retries": "RETRY_MAX_ATTEMPTS=2 RETRY_BASE_DELAY_MS=2000 RETRY_BACKOFF_FACTOR=3.0",
    "sensitive breaker": "CIRCUIT_BREAKER_FAILURE_THRESHOLD=3 CIRCUIT_BREAKER_RECOVERY_TIMEOUT=30000",
    "tolerant breaker": "CIRCUIT_BREAKER_FAILURE_THRESHOLD=10 CIRCUIT_BREAKER_RECOVERY_TIMEOUT=120000",
}


@pytest.mark.parametrize("block", GUIDE)
def test_the_guide_s_variables_are_taken_as_they_are_written(block: str) -> None:
    given = dict(pair.split("=", 1) for pair in GUIDE[block].split())
    openai, anthropic = load({**KEYS, **given}).providers

    assert openai.retry == anthropic.retry
    expected: dict[str, Any] = {
        "RETRY_MAX_ATTEMPTS": 3,
        "RETRY_BASE_DELAY_MS": 1000,
        "RETRY_BACKOFF_FACTOR": 2.0,
    } | given
    retry = openai.retry
    assert (retry.max_attempts, retry.base_delay_seconds * 1000, retry.factor) == tuple(
        float(expected[name]) for name in ("RETRY_MAX_ATTEMPTS", "RETRY_BASE_DELAY_MS", "RETRY_BACKOFF_FACTOR")
    )
    breaker = openai.breaker
    expected = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": 5, "CIRCUIT_BREAKER_RECOVERY_TIMEOUT": 60000} | given
    assert (breaker.failure_threshold, breaker.recovery_timeout_seconds * 1000) == tuple(
        float(expected[name]) for name in ("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "CIRCUIT_BREAKER_RECOVERY_TIMEOUT")
    )
