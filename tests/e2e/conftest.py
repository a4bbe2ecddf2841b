"""Fixtures: two simulated providers for the whole run, a gateway in front of them for each test that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.node import Gateway, Upstream, gateway, upstream


@pytest.fixture(scope="session")
def _openai() -> Iterator[Upstream]:
    with upstream("openai") as provider:
        yield provider


@pytest.fixture(scope="session")
def _anthropic() -> Iterator[Upstream]:
    with upstream("anthropic") as provider:
        yield provider


@pytest.fixture
def primary(_openai: Upstream) -> Iterator[Upstream]:
    """The OpenAI provider, without faults and with an empty ledger."""
    _openai.fault("none")
    _openai.reset()
    yield _openai
    _openai.fault("none")


@pytest.fixture
def secondary(_anthropic: Upstream) -> Iterator[Upstream]:
    """The Anthropic provider, likewise."""
    _anthropic.fault("none")
    _anthropic.reset()
    yield _anthropic
    _anthropic.fault("none")


@pytest.fixture
def serve(tmp_path: Path, primary: Upstream, secondary: Upstream) -> Iterator[Callable[..., Gateway]]:
    """Start a gateway over both providers; keyword arguments are environment variables."""
    with ExitStack() as stack:

        def start(*arguments: str, **environment: str) -> Gateway:
            base = {
                "OPENAI_API_KEY": "sk-upstream-openai",
                "OPENAI_BASE_URL": primary.url,
                "ANTHROPIC_API_KEY": "sk-upstream-anthropic",
                "ANTHROPIC_BASE_URL": secondary.url,
                "FAILOVER_STRATEGY": "priority",
                "RETRY_BASE_DELAY_MS": "10",
            }
            folder = tmp_path / f"node{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(gateway(folder, {**base, **environment}, *arguments))

        yield start


@pytest.fixture
def node(serve: Callable[..., Gateway]) -> Gateway:
    """A gateway with the settings that most tests want."""
    return serve()
