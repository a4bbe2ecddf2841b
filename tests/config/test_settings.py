"""Settings that make no sense cannot exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runestone.config.settings import (
    ConfigurationError,
    GroupSettings,
    InboundKey,
    Problem,
    ProviderSettings,
    ServerSettings,
    Settings,
    TimeoutSettings,
)
from runestone.domain.secret import Secret

SERVER = ServerSettings(admin_socket=Path("/x"))


def provider(*, timeout_seconds: float = 1.0) -> ProviderSettings:
    return ProviderSettings(
        name="p",
        kind="openai",
        base_url="https://x",
        default_model="m",
        api_key=Secret("sk-hunter2"),
        headers={"x-key": "hunter2"},
        timeout_seconds=timeout_seconds,
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: ServerSettings(admin_socket=Path("/x"), port=-1),
        lambda: ServerSettings(admin_socket=Path("/x"), health_port=65536),
        lambda: ServerSettings(admin_socket=Path("/x"), drain_timeout_seconds=-1.0),
        lambda: ServerSettings(admin_socket=Path("/x"), body_limit_bytes=0),
        lambda: ServerSettings(admin_socket=Path("/x"), body_timeout_seconds=0.0),
        lambda: TimeoutSettings(request_deadline_seconds=0.0),
        lambda: TimeoutSettings(first_token_seconds=0.0),
        lambda: TimeoutSettings(idle_seconds=0.0),
        lambda: TimeoutSettings(connect_seconds=0.0),
        lambda: provider(timeout_seconds=0.0),
        lambda: GroupSettings(name="g", providers=(), max_attempts=0),
        lambda: GroupSettings(name="g", providers=(), health_threshold=1.1),
        lambda: Settings(server=SERVER, max_upstream_calls=0),
    ],
)
def test_an_impossible_value_cannot_exist(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()


def test_no_key_and_no_header_is_shown() -> None:
    settings = Settings(server=SERVER, providers=(provider(),))

    assert "hunter2" not in repr(settings)
    assert "digest" not in repr(InboundKey("web", b"digest of it"))


def test_a_configuration_error_is_all_its_problems_a_line_each() -> None:
    error = ConfigurationError(
        (
            Problem(where="env:A", what="is odd", got="1", allowed="2"),
            Problem(where="env:B", what="is even", got="2", allowed="1"),
        )
    )

    assert str(error) == "env:A: is odd; got 1; allowed: 2\nenv:B: is even; got 2; allowed: 1"
