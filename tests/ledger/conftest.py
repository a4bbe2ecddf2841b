"""Fixtures: a PostgreSQL server for the whole run, and a database of it that is empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ledger.server import Server, server


@pytest.fixture(scope="session")
def _postgres() -> Iterator[Server]:
    with server() as one:
        yield one


@pytest.fixture
def postgres(_postgres: Server) -> Server:
    """It runs, and has no ledger."""
    if _postgres.process is None:
        _postgres.start()
    _postgres.run("DROP TABLE IF EXISTS runestone_calls, runestone_ledger")
    return _postgres
