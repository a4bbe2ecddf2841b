"""From environment variables to settings. Every problem is told, at once, by the name of its variable; no value of a secret ever is."""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, get_args
from urllib.parse import SplitResult, urlsplit

import cattrs
from attrs import evolve

from runestone.config.run_directory import admin_socket
from runestone.config.settings import (
    AuthSettings,
    ConfigurationError,
    GroupSettings,
    InboundKey,
    LogFormat,
    LogSettings,
    Mode,
    Problem,
    ProviderKind,
    ProviderRefusal,
    ProviderSettings,
    ServerSettings,
    Settings,
    TimeoutSettings,
)
from runestone.domain.routing import DEFAULT_GROUP
from runestone.domain.secret import Secret
from runestone.resilience.breaker import BreakerPolicy
from runestone.resilience.retry import RetryPolicy
from runestone.resilience.selection import STRATEGIES

T = TypeVar("T")

COST_GROUP: Final = "cost-optimized-service"
_VENDORS: Final[dict[ProviderKind, tuple[str, str, str]]] = {
    "openai": ("OPENAI", "https://api.openai.com/v1", "gpt-4o-mini"),
    "anthropic": ("ANTHROPIC", "https://api.anthropic.com/v1", "claude-sonnet-4-5"),
}
_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([0-9]{1,15})|([0-9]{1,15}(?:\.[0-9]+)?)(ms|s|m|h)")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,15}")
_USERINFO: Final = re.compile(r"//.*@", re.DOTALL)
_MOST_ATTEMPTS: Final = 100
_MEGABYTE: Final = 1024 * 1024
_LONGEST_SECONDS: Final = 86400.0
_PROBE_GRACE_SECONDS: Final = 5.0  # a call's own timeout ends it before its breaker stops waiting for the probe
_HEX_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")
_KNOWN: Final = frozenset(
    f"RUNESTONE_{name}"
    for name in [
        "HOST",
        "PORT",
        "HEALTH_PORT",
        "API_KEYS",
        "API_KEYS_FILE",
        "CONFIG",
        "ADMIN_SOCKET",
        "REQUEST_DEADLINE_MS",
        "FIRST_TOKEN_TIMEOUT_MS",
        "IDLE_TIMEOUT_MS",
        "CONNECT_TIMEOUT_MS",
        "DRAIN_TIMEOUT_MS",
        "BODY_LIMIT_BYTES",
        "BODY_TIMEOUT_MS",
        "MAX_UPSTREAM_CALLS",
        "PROVIDER_MODE",
        "LOG_LEVEL",
        "LOG_FORMAT",
    ]
)


class _Reader:
    """Reads variables, and gathers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def problem(self, name: str, what: str, got: str, allowed: str) -> None:
        """Note one."""
        self.problems.append(Problem(where=f"env:{name}", what=what, got=got, allowed=allowed))

    def text(self, name: str) -> str | None:
        """The value of ``name``, or of the file that ``name_FILE`` names; empty is unset."""
        value, path = self.environ.get(name, "").strip() or None, self.environ.get(f"{name}_FILE") or None
        if value is not None and path is not None:
            self.problem(name, "is set twice", f"both {name} and {name}_FILE", "one of them")
        if value is None and path is not None:
            value = self.file(f"{name}_FILE", path)
        return value

    def file(self, name: str, path: str) -> str | None:
        """The text of the file at ``path``."""
        try:
            return Path(path).read_text(encoding="utf-8").strip() or None
        except (OSError, ValueError) as error:
            # a key that was put where a path belongs must not be shown
            shown = path[:100] if path.startswith(("/", "./", "../")) else "a path that is not absolute"
            self.problem(name, "cannot be read", f"{shown} ({type(error).__name__})", "a readable text file")
            return None

    def value(self, name: str, default: T, parse: Callable[[str], T], what: str, allowed: str) -> T:
        """The parsed value of ``name``."""
        text = self.text(name)
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError:
            self.problem(name, f"is not {what}", repr(text[:60]), allowed)
            return default

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """An integer."""
        return self.value(name, default, partial(_whole, low, high), "a whole number in range", f"{low} to {high}")

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number."""
        allowed = f"{low:g} to {high:g}"
        return self.value(name, default, lambda t: _between(float(t), low, high), "a number in range", allowed)

    def flag(self, name: str, *, default: bool) -> bool:
        """A yes or no."""
        return self.value(name, default, _flag, "a yes or no", "true or false")

    def seconds(self, name: str, default: float, *, low: float = 0.001, warn: bool = False) -> float:
        """A time in seconds: milliseconds, or with a unit."""
        seconds = self.value(
            name,
            default,
            lambda t: _between(_seconds(t), low, _LONGEST_SECONDS),
            "a time in range",
            f'milliseconds such as 120000, or "120s"; from {low * 1000:g} ms to {_LONGEST_SECONDS / 3600:g} h',
        )
        if warn and seconds < 1.0:
            self.warnings.append(
                f"env:{name}: {seconds * 1000:g} ms is very short; did you mean seconds? The unit is milliseconds"
            )
        return seconds

    def choice(self, name: str, default: str, allowed: tuple[str, ...], *, upper: bool = False) -> str:
        """One word of several."""
        text = self.text(name)
        if text is None:
            return default
        word = text.upper() if upper else text.lower()
        if word in allowed:
            return word
        near = difflib.get_close_matches(word, allowed, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        self.problem(name, "is not known", repr(text[:60]), ", ".join(allowed) + hint)
        return default


def load(environ: Mapping[str, str], *, demo: bool = False) -> Settings:
    """The settings in ``environ``. With ``demo``, keys and base URLs of real providers are not looked at.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    read = _Reader(environ)
    if (path := read.text("RUNESTONE_CONFIG")) is not None:
        read.problem(
            "RUNESTONE_CONFIG", "names a file, and files are not read yet", repr(path[:60]), "environment variables"
        )
    retry = RetryPolicy(
        max_attempts=read.whole("RETRY_MAX_ATTEMPTS", 3, 1, _MOST_ATTEMPTS),
        base_delay_seconds=read.seconds("RETRY_BASE_DELAY_MS", 1.0, low=0.0),
        factor=read.number("RETRY_BACKOFF_FACTOR", 2.0, 1.0, 100.0),
        jitter=read.flag("RETRY_JITTER", default=True),
    )
    breaker = BreakerPolicy(
        failure_threshold=read.whole("CIRCUIT_BREAKER_FAILURE_THRESHOLD", 5, 1, 10_000),
        recovery_timeout_seconds=read.seconds("CIRCUIT_BREAKER_RECOVERY_TIMEOUT", 60.0, warn=True),
    )
    found = [_provider(read, kind, retry, breaker, demo=demo) for kind in _VENDORS]
    providers = tuple(p for p in found if isinstance(p, ProviderSettings))
    groups = _groups(read, tuple(p.name for p in providers))
    auth = AuthSettings(keys=_keys(read))
    settings = Settings(
        server=_server(read, environ, has_keys=bool(auth.keys)),
        timeouts=TimeoutSettings(
            request_deadline_seconds=read.seconds("RUNESTONE_REQUEST_DEADLINE_MS", 600.0, warn=True),
            first_token_seconds=read.seconds("RUNESTONE_FIRST_TOKEN_TIMEOUT_MS", 30.0, warn=True),
            idle_seconds=read.seconds("RUNESTONE_IDLE_TIMEOUT_MS", 30.0, warn=True),
            connect_seconds=read.seconds("RUNESTONE_CONNECT_TIMEOUT_MS", 5.0),
        ),
        providers=providers,
        groups=groups,
        auth=auth,
        logs=cattrs.structure(
            {
                "level": read.choice("RUNESTONE_LOG_LEVEL", "INFO", _LEVELS, upper=True),
                "format": read.choice("RUNESTONE_LOG_FORMAT", "auto", get_args(LogFormat)),
            },
            LogSettings,
        ),
        max_upstream_calls=max(
            read.whole("RUNESTONE_MAX_UPSTREAM_CALLS", 4, 1, _MOST_ATTEMPTS),
            *(p.retry.max_attempts for p in providers),
            groups[0].max_attempts,
        ),
        refusals=tuple(p for p in found if isinstance(p, ProviderRefusal)),
    )
    _unknown(read, environ)
    if read.problems:
        raise ConfigurationError(tuple(read.problems))
    return evolve(settings, warnings=tuple(read.warnings))


def _provider(
    read: _Reader, kind: ProviderKind, retry: RetryPolicy, breaker: BreakerPolicy, *, demo: bool
) -> ProviderSettings | ProviderRefusal:
    prefix, base_url, model = _VENDORS[kind]
    name = f"{kind}-default"
    key = None if demo else read.text(f"{prefix}_API_KEY")
    timeout = read.seconds(f"{prefix}_TIMEOUT", 120.0, warn=True)
    settings = ProviderSettings(
        name=name,
        kind=kind,
        base_url=base_url if demo else _base_url(read, prefix, base_url),
        api_key=None if key is None else Secret(key),
        timeout_seconds=timeout,
        retry=evolve(retry, max_attempts=read.whole(f"{prefix}_RETRY_ATTEMPTS", retry.max_attempts, 1, _MOST_ATTEMPTS)),
        circuit_breaker=read.flag(f"{prefix}_CIRCUIT_BREAKER", default=True),
        breaker=evolve(breaker, probe_deadline_seconds=timeout + _PROBE_GRACE_SECONDS),
        default_model=model,
    )
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        read.problem(f"{prefix}_API_KEY", "cannot be a key", "white space or other than ASCII in it", "the key alone")
    if key is not None or demo:
        return settings
    return ProviderRefusal(name, "missing_api_key", f"set {prefix}_API_KEY, or {prefix}_API_KEY_FILE")


def _base_url(read: _Reader, prefix: str, default: str) -> str:
    name = f"{prefix}_BASE_URL"
    text = read.text(name) or default
    try:
        url = _plain_url(text)
    except ValueError:
        allowed = "http(s)://host[:port]/path without user, query and fragment"
        read.problem(name, "is not a usable address", repr(_without_secrets(text)), allowed)
        return default
    if url.scheme == "http" and not _is_loopback(url.hostname or ""):
        read.warnings.append(f"env:{name}: keys and prompts go over plain http to {url.hostname}")
    # Anthropic's own SDK is given its address without the version
    return text.rstrip("/") + ("/v1" if prefix == "ANTHROPIC" and url.path in ("", "/") else "")


def _plain_url(text: str) -> SplitResult:
    url = urlsplit(text)
    odd = "@" in url.netloc or url.fragment or url.query or url.port == 0
    if url.scheme not in ("http", "https") or not url.hostname or odd or any(c.isspace() for c in text):
        raise ValueError(text)
    return url


def _without_secrets(address: str) -> str:
    """An address as far as it may be shown: no user, no password, no query, and nothing at all of what is no address."""
    if "//" not in address:
        return "***"
    return re.split(r"[?#]", _USERINFO.sub("//***@", address), maxsplit=1)[0][:100]


def _server(read: _Reader, environ: Mapping[str, str], *, has_keys: bool) -> ServerSettings:
    host = read.text("RUNESTONE_HOST") or "127.0.0.1"
    if not has_keys and not _is_loopback(host):
        read.problem(
            "RUNESTONE_HOST",
            "would serve other machines without any key",
            repr(host[:60]),
            "a loopback address, or set RUNESTONE_API_KEYS",
        )
    port = read.whole("RUNESTONE_PORT", 4003, 0, 65535)
    health_port = read.whole("RUNESTONE_HEALTH_PORT", 4004, 0, 65535)
    if port == health_port != 0:
        read.problem("RUNESTONE_HEALTH_PORT", "is the API's port too", str(port), "another port, or 0 for a free one")
    socket = read.text("RUNESTONE_ADMIN_SOCKET")
    mode: Any = read.choice("RUNESTONE_PROVIDER_MODE", "enhanced", get_args(Mode))
    return ServerSettings(
        host=host,
        port=port,
        health_port=health_port,
        admin_socket=admin_socket(environ) if socket is None else Path(socket),
        drain_timeout_seconds=read.seconds("RUNESTONE_DRAIN_TIMEOUT_MS", 30.0, low=0.0),
        body_limit_bytes=read.whole("RUNESTONE_BODY_LIMIT_BYTES", 32 * _MEGABYTE, 1, 1024 * _MEGABYTE),
        body_timeout_seconds=read.seconds("RUNESTONE_BODY_TIMEOUT_MS", 30.0, warn=True),
        mode=mode,
    )


def _groups(read: _Reader, providers: tuple[str, ...]) -> tuple[GroupSettings, ...]:
    attempts = read.whole("FAILOVER_MAX_ATTEMPTS", 3, 1, _MOST_ATTEMPTS)
    threshold = read.number("FAILOVER_HEALTH_THRESHOLD", 0.7, 0.0, 1.0)
    strategy: Any = read.choice("FAILOVER_STRATEGY", "round_robin", STRATEGIES)
    return (
        GroupSettings(
            name=DEFAULT_GROUP,
            providers=providers,
            strategy=strategy,
            max_attempts=attempts,
            health_threshold=threshold,
        ),
        GroupSettings(
            name=COST_GROUP,
            providers=providers,
            strategy="cost_optimized",
            max_attempts=attempts,
            health_threshold=threshold,
        ),
    )


def _keys(read: _Reader) -> tuple[InboundKey, ...]:
    """``RUNESTONE_API_KEYS``: a comma list. ``RUNESTONE_API_KEYS_FILE``: ``name:key-or-sha256`` a line, ``#`` before a comment."""
    listed = list(filter(None, map(str.strip, read.environ.get("RUNESTONE_API_KEYS", "").split(","))))
    keys = [InboundKey(f"key{number}", _digest(key)) for number, key in enumerate(listed, 1)]
    if not listed and read.environ.get("RUNESTONE_API_KEYS", "").strip():
        read.problem("RUNESTONE_API_KEYS", "holds no key", "commas alone", "keys with commas between them")
    if path := read.environ.get("RUNESTONE_API_KEYS_FILE"):
        keys += _keys_in_file(read, path)
    return tuple(keys)


def _keys_in_file(read: _Reader, path: str) -> list[InboundKey]:
    name, known = "RUNESTONE_API_KEYS_FILE", len(read.problems)
    keys: list[InboundKey] = []
    for number, line in enumerate((read.file(name, path) or "").splitlines(), 1):
        owner, _, key = (part.strip() for part in line.partition(":"))
        if owner.startswith("#") or not line.strip():
            continue
        if not owner or not key:
            read.problem(name, f"line {number} is not a key", "no name:key", "name:key, or name:sha256 in hex")
            continue
        keys.append(InboundKey(owner, bytes.fromhex(key) if _HEX_DIGEST.fullmatch(key) else _digest(key)))
    if not keys and len(read.problems) == known:
        # a file was meant to protect the node: an empty one must not open it
        read.problem(name, "holds no key", "a file without any", "name:key, or name:sha256 in hex")
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _unknown(read: _Reader, environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if name.startswith("RUNESTONE_") and name not in _KNOWN and name.removesuffix("_FILE") not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            read.warnings.append(f"env:{name}: no such setting{hint}")


def _between(value: T, low: Any, high: Any) -> T:
    if not low <= value <= high:
        raise ValueError(value)
    return value


def _flag(text: str) -> bool:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(text)
    return word in _TRUE


def _whole(low: int, high: int, text: str) -> int:
    if _WHOLE.fullmatch(text) is None:
        raise ValueError(text)
    return _between(int(text), low, high)


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text.strip('"'))
    if match is None:
        raise ValueError(text)
    milliseconds, number, unit = match.groups()
    return int(milliseconds) / 1000 if milliseconds else round(float(number) * _UNITS[unit], 6)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
