"""Where rows are kept: what a store does, and which one a URL names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from runestone.config.ledger import sqlite_path
from runestone.domain.secret import Secret
from runestone.ledger.report import Costs, Query
from runestone.ledger.row import Row

BATCH: Final = 512  # rows of one transaction


class StoreError(Exception):
    """The store does not take or give rows now: it is locked, full, gone, or no ledger. The next try begins from nothing."""


class Store(Protocol):
    """One store. Nothing is opened before it is needed, so that making one cannot fail; every method raises :class:`StoreError`."""

    async def write(self, rows: Sequence[Row]) -> None:
        """Keep ``rows``, all or none. Those that are there already are left as they are."""
        ...

    async def report(self, query: Query) -> Costs:
        """What ``query`` asks for."""
        ...

    async def prune(self, before_ms: int, most: int) -> int:
        """Forget calls that ended before, ``most`` at a time; the number of those forgotten."""
        ...

    async def close(self) -> None:
        """Let go of the database."""
        ...


def opened(url: Secret) -> Store:
    """The store that ``url`` names."""
    if (path := sqlite_path(url)) is not None:
        from runestone.ledger.sqlite import SqliteStore  # noqa: PLC0415 - one of two

        return SqliteStore(path)
    from runestone.ledger.postgres import PostgresStore  # noqa: PLC0415 - an extra

    return PostgresStore(url)
