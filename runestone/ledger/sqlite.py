"""The ledger in a file of SQLite: WAL, strict tables, private to its owner, its schema brought up to date when it is opened."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import quote

from runestone.ledger import sql
from runestone.ledger.report import Costs, Query, costs
from runestone.ledger.row import COLUMNS, Row
from runestone.ledger.store import StoreError
from supervisors import run_blocking

_BUSY_SECONDS: Final = 1.0  # that a write waits for another process to end its own
_APPLICATION: Final = 0x52554E45  # in the file's head: whose it is
_OLDEST: Final = (3, 37, 0)  # that knows strict tables

#: Each brings the schema from its index to the next number; what has been released is never changed, only followed by another.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE calls (
            id BLOB PRIMARY KEY CHECK (length(id) = 16),
            ended_ms INTEGER NOT NULL,
            request_id TEXT NOT NULL,
            number INTEGER NOT NULL,
            key_name TEXT NOT NULL,
            group_name TEXT NOT NULL,
            provider TEXT NOT NULL,
            kind TEXT NOT NULL,
            model TEXT NOT NULL,
            api TEXT NOT NULL,
            stream INTEGER NOT NULL CHECK (stream IN (0, 1)),
            outcome TEXT NOT NULL,
            input_tokens INTEGER,
            output_tokens INTEGER,
            cached_tokens INTEGER,
            cache_write_tokens INTEGER,
            reasoning_tokens INTEGER,
            cost_picodollars INTEGER CHECK (cost_picodollars >= 0),
            duration_ms INTEGER NOT NULL,
            first_content_ms INTEGER
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX calls_by_time ON calls (ended_ms)",
    ),
    (
        "ALTER TABLE calls ADD COLUMN cache_write_1h_tokens INTEGER",
        "ALTER TABLE calls ADD COLUMN audio_input_tokens INTEGER",
        "ALTER TABLE calls ADD COLUMN audio_output_tokens INTEGER",
        "ALTER TABLE calls ADD COLUMN web_searches INTEGER",
        "ALTER TABLE calls ADD COLUMN service_tier TEXT",
        "ALTER TABLE calls ADD COLUMN region TEXT",
        "ALTER TABLE calls ADD COLUMN cost_told INTEGER NOT NULL DEFAULT 0",
    ),
)
_PLACES: Final = f"({', '.join('?' * len(COLUMNS))})"
#: Rows of one statement. At its end a thread lets go of the interpreter, and must get it back from the event loop: that takes longer than
#: a row. They are few sizes, so that each is compiled once.
_AT_ONCE: Final = (128, 32, 8, 1)
_PRUNE: Final = "DELETE FROM calls WHERE id IN (SELECT id FROM calls WHERE ended_ms < ? LIMIT ?)"


class Sqlite:
    """The file at ``path``. Every method may block, and is for one thread at a time (who comes meanwhile waits); see :class:`SqliteStore`.

    After a failure it is closed, and opened anew at the next use: a file that was moved away, replaced or repaired is found.
    """

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
        self._path = path
        self._migrations = migrations
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def write(self, rows: Sequence[Row]) -> None:
        """Keep ``rows``, in one transaction."""
        with self._using() as connection, _transaction(connection):
            begin = 0
            for size in _AT_ONCE:
                while begin + size <= len(rows):
                    connection.execute(_insert(size), [*chain.from_iterable(rows[begin : begin + size])])
                    begin += size

    def prune(self, before_ms: int, most: int) -> int:
        """Forget the calls that ended before, ``most`` at once."""
        with self._using() as connection, _transaction(connection):
            return connection.execute(_PRUNE, (before_ms, most)).rowcount

    def report(self, query: Query) -> Costs:
        """What ``query`` asks for, over a connection of its own: writing goes on meanwhile."""
        period = (query.since_ms, query.until_ms)
        with self._using():
            pass  # it is there, and up to date
        with _telling(), closing(self._open()) as connection:
            connection.execute("BEGIN")
            lines = connection.execute(sql.lines_of(query, "calls", "?", "?"), period).fetchall()
            total = connection.execute(sql.total_of("calls", "?", "?"), period).fetchone()
        return costs(query, [sql.line(query.by, line) for line in lines], sql.line(None, total))

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, _telling():
            self._close()

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _telling():
            try:
                yield self._connected()
            except BaseException:
                self._close()
                raise

    def _connected(self) -> sqlite3.Connection:
        """The connection, unless the file is another one by now: what is written to one that was taken away is lost."""
        if self._connection is not None and _identity(self._path) != self._identity:
            self._close()
        if self._connection is None:
            self._make()
            self._connection = self._open()
            self._identity = _identity(self._path)
        return self._connection

    def _close(self) -> None:
        if (connection := self._connection) is not None:
            self._connection = None
            connection.close()

    def _make(self) -> None:
        """An empty file that is its owner's alone from its first moment. One that is there is not even opened: to close a file takes
        away all locks of this process on it, those of other connections too.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def _open(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StoreError(f"SQLite is {sqlite3.sqlite_version}; 3.37 or newer is needed")
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=rw",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            self._bring_up_to_date(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        if self._version(connection) == len(self._migrations):
            return
        with _transaction(connection):
            version = self._version(connection)  # another process may have been here meanwhile
            for number, migration in enumerate(self._migrations[version:], version + 1):
                for statement in migration:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")

    def _version(self, connection: sqlite3.Connection) -> int:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and application != _APPLICATION:
            raise StoreError("the file is another program's database")
        if version > len(self._migrations):
            raise StoreError(sql.newer("file", version, len(self._migrations)))
        return int(version)


class SqliteStore:
    """:class:`Sqlite` for actors: on threads of their tree."""

    def __init__(self, path: Path) -> None:
        self._file = Sqlite(path)

    async def write(self, rows: Sequence[Row]) -> None:
        """Keep ``rows``."""
        await run_blocking(self._file.write, rows)

    async def report(self, query: Query) -> Costs:
        """What ``query`` asks for."""
        return await run_blocking(self._file.report, query)

    async def prune(self, before_ms: int, most: int) -> int:
        """Forget."""
        return await run_blocking(self._file.prune, before_ms, most)

    async def close(self) -> None:
        """Let go of the file."""
        await run_blocking(self._file.close)


@cache
def _insert(count: int) -> str:
    places = ", ".join([_PLACES] * count)
    return f"INSERT INTO calls ({', '.join(COLUMNS)}) VALUES {places} ON CONFLICT (id) DO NOTHING"  # noqa: S608 - words of this program


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has ended it itself where the disk is full
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(str(error)) from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
