"""The ledger in PostgreSQL, which several nodes may share: over asyncpg, with one connection that is made anew after a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg

from runestone.domain.secret import Secret
from runestone.ledger import sql
from runestone.ledger.report import Costs, Query, costs
from runestone.ledger.row import COLUMNS, Row
from runestone.ledger.store import StoreError

_CONNECT_SECONDS: Final = 5.0
_WRITE_SECONDS: Final = 10.0
_REPORT_SECONDS: Final = 60.0
_CLOSE_SECONDS: Final = 1.0
_LOCK: Final = 0x52554E45  # while the schema is made: of two nodes that start at once, one waits

#: As those of SQLite: each brings the schema from its index to the next number.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE runestone_calls (
            id uuid PRIMARY KEY,
            ended_ms bigint NOT NULL,
            request_id text NOT NULL,
            number integer NOT NULL,
            key_name text NOT NULL,
            group_name text NOT NULL,
            provider text NOT NULL,
            kind text NOT NULL,
            model text NOT NULL,
            api text NOT NULL,
            stream boolean NOT NULL,
            outcome text NOT NULL,
            input_tokens bigint,
            output_tokens bigint,
            cached_tokens bigint,
            cache_write_tokens bigint,
            reasoning_tokens bigint,
            cost_picodollars bigint CHECK (cost_picodollars >= 0),
            duration_ms bigint NOT NULL,
            first_content_ms bigint
        )
        """,
        "CREATE INDEX runestone_calls_by_time ON runestone_calls (ended_ms)",
    ),
    (
        """
        ALTER TABLE runestone_calls
            ADD COLUMN cache_write_1h_tokens bigint,
            ADD COLUMN audio_input_tokens bigint,
            ADD COLUMN audio_output_tokens bigint,
            ADD COLUMN web_searches bigint,
            ADD COLUMN service_tier text,
            ADD COLUMN region text,
            ADD COLUMN cost_told boolean NOT NULL DEFAULT false
        """,
    ),
)
_INSERT: Final = (
    f"INSERT INTO runestone_calls ({', '.join(COLUMNS)}) "  # noqa: S608 - words of this program
    f"VALUES ({', '.join(f'${n}' for n in range(1, len(COLUMNS) + 1))}) ON CONFLICT (id) DO NOTHING"
)
_STREAM: Final = COLUMNS.index("stream")
_IS_THERE: Final = (  # not to_regclass, which remembers within a transaction what was not there
    "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'runestone_ledger' AND pg_table_is_visible(oid))"
)
_PRUNE: Final = "DELETE FROM runestone_calls WHERE id IN (SELECT id FROM runestone_calls WHERE ended_ms < $1 LIMIT $2)"


class PostgresStore:
    """The database that ``url`` names. The password in it is told to the server alone."""

    def __init__(self, url: Secret, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
        self._url = url
        self._migrations = migrations
        self._connection: Any = None

    async def write(self, rows: Sequence[Row]) -> None:
        """Keep ``rows``, in one transaction."""
        async with self._using() as connection, connection.transaction():
            await connection.executemany(_INSERT, [_values(row) for row in rows])

    async def prune(self, before_ms: int, most: int) -> int:
        """Forget the calls that ended before, ``most`` at once."""
        async with self._using() as connection:
            return int((await connection.execute(_PRUNE, before_ms, most)).rpartition(" ")[2])

    async def report(self, query: Query) -> Costs:
        """What ``query`` asks for, over a connection of its own: writing goes on meanwhile."""
        period = (query.since_ms, query.until_ms)
        with _telling():
            connection = await self._open(_REPORT_SECONDS)
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    lines = await connection.fetch(sql.lines_of(query, "runestone_calls", "$1", "$2"), *period)
                    total = await connection.fetchrow(sql.total_of("runestone_calls", "$1", "$2"), *period)
            finally:
                connection.terminate()
        return costs(query, [sql.line(query.by, tuple(line)) for line in lines], sql.line(None, tuple(total)))

    async def close(self) -> None:
        """Let go of the database."""
        if (connection := self._connection) is not None:
            self._connection = None
            with _telling():
                await connection.close(timeout=_CLOSE_SECONDS)

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[Any]:
        with _telling():
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._open(_WRITE_SECONDS)
                yield self._connection
            except BaseException:  # cancelled, too: nobody knows what the connection is in the middle of
                if (connection := self._connection) is not None:
                    self._connection = None
                    connection.terminate()
                raise

    async def _open(self, seconds: float) -> Any:
        connection = await asyncpg.connect(
            self._url.reveal(),
            timeout=_CONNECT_SECONDS,
            command_timeout=seconds,
            server_settings={"application_name": "runestone"},
        )
        try:
            await self._bring_up_to_date(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _bring_up_to_date(self, connection: Any) -> None:
        if await self._version(connection) == len(self._migrations):
            return
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            version = await self._version(connection)  # another node may have been here meanwhile
            await connection.execute("CREATE TABLE IF NOT EXISTS runestone_ledger (version integer NOT NULL)")
            for migration in self._migrations[version:]:
                for statement in migration:
                    await connection.execute(statement)
            await connection.execute("DELETE FROM runestone_ledger")
            await connection.execute("INSERT INTO runestone_ledger VALUES ($1)", len(self._migrations))

    async def _version(self, connection: Any) -> int:
        if not await connection.fetchval(_IS_THERE):
            return 0
        version = int(await connection.fetchval("SELECT max(version) FROM runestone_ledger"))
        if version > len(self._migrations):
            raise StoreError(sql.newer("schema", version, len(self._migrations)))
        return version


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:  # a timeout is an OSError
        raise StoreError(str(error) or "it does not answer in time") from error


def _values(row: Row) -> tuple[Any, ...]:
    """As asyncpg takes them."""
    return (row.id.hex(), *row[1:_STREAM], bool(row.stream), *row[_STREAM + 1 : -1], bool(row.cost_told))
