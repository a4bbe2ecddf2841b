"""The file of the ledger: its mode, its schema from version 0 on, whose it is, what becomes of it when it is locked, lost or replaced."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from runestone.ledger.report import Query
from runestone.ledger.sqlite import MIGRATIONS, Sqlite
from runestone.ledger.store import StoreError
from tests.ledger.rows import DAY, row

ALL = Query(since_ms=0, until_ms=2 * DAY, by="provider")
FURTHER = (*MIGRATIONS, ("ALTER TABLE calls ADD COLUMN ward TEXT NOT NULL DEFAULT 'eu'",))
VERSION_1 = Path(__file__).parent / "version_1" / "sqlite.sql"  # as a node of that version has made it


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a" / "b" / "ledger.sqlite"


def one(path: Path, statement: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchone()[0]


def test_the_file_and_its_folder_are_its_owner_s_alone_whatever_the_umask_says(path: Path) -> None:
    before = os.umask(0)
    try:
        store = Sqlite(path)
        store.write([row()])
    finally:
        os.umask(before)

    files = list(path.parent.iterdir())
    assert len(files) == 3  # its WAL and what belongs to that too
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


def test_an_empty_file_is_version_0_and_is_brought_up_to_date(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    store = Sqlite(path)
    store.write([row()])
    store.close()

    assert one(path, "PRAGMA user_version") == len(MIGRATIONS)
    assert one(path, "PRAGMA journal_mode") == "wal"


def test_a_file_of_an_older_version_keeps_its_rows(path: Path) -> None:
    old = Sqlite(path)
    old.write([row()])
    old.close()

    new = Sqlite(path, FURTHER)
    new.write([row()])

    assert new.report(ALL).total.calls == 2
    assert one(path, "SELECT min(ward) FROM calls") == "eu"
    new.close()


def test_a_file_of_version_1_keeps_its_rows_and_takes_the_new_ones(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    before = one(path, "SELECT group_concat(hex(id) || coalesce(cost_picodollars, '-')) FROM calls")

    store = Sqlite(path)
    assert store.report(ALL).total.calls == 3
    store.write(
        [
            row(
                cache_write_1h_tokens=1,
                audio_input_tokens=2,
                audio_output_tokens=3,
                web_searches=4,
                service_tier="batch",
                cost_told=True,
            )
        ]
    )
    found = store.report(evolve(ALL, by="tier"))

    assert {line.name: line.calls for line in found.lines} == {"unknown": 3, "batch": 1}
    total = found.total
    assert (total.cache_write_1h_tokens, total.audio_input_tokens, total.audio_output_tokens) == (1, 2, 3)
    assert (total.web_searches, total.batch_calls, total.calls, total.unknown_cost_calls) == (4, 1, 4, 1)
    assert total.told_cost_calls == 1
    assert before in one(path, "SELECT group_concat(hex(id) || coalesce(cost_picodollars, '-')) FROM calls")
    assert one(path, "SELECT count(*) FROM calls WHERE web_searches IS NULL AND service_tier IS NULL") == 3
    assert one(path, "PRAGMA user_version") == len(MIGRATIONS) == 2
    store.close()


def test_a_node_of_version_1_goes_on_writing_into_the_file_that_a_newer_one_has_brought_up_to_date(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(VERSION_1.read_text(encoding="utf-8"))
        columns = ", ".join(column for _, column, *_ in old.execute("PRAGMA table_info(calls)"))
        insert = f"INSERT INTO calls ({columns}) SELECT randomblob(16), {columns.partition(', ')[2]} FROM calls LIMIT 1"
        store = Sqlite(path)
        store.write([row()])

        old.execute(insert)

    assert store.report(ALL).total.calls == 5
    store.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    old = Sqlite(path)
    old.write([row()])
    old.close()
    broken = Sqlite(path, (*FURTHER, ("CREATE TABLE more (x)", "no SQL")))

    with pytest.raises(StoreError, match="syntax error"):
        broken.write([row()])

    assert one(path, "PRAGMA user_version") == len(MIGRATIONS)
    assert old.report(ALL).total.calls == 1
    old.close()


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    Sqlite(path, FURTHER).write([row()])

    with pytest.raises(
        StoreError, match="of a newer version \\(3; this one knows 2\\): run the runestone that made it"
    ):
        Sqlite(path).write([row()])


def test_another_program_s_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")

    with pytest.raises(StoreError, match="another program's"):
        Sqlite(path).write([row()])

    assert one(path, "SELECT count(*) FROM sqlite_schema") == 1


def test_a_locked_file_takes_nothing_and_later_everything(path: Path) -> None:
    store, rows = Sqlite(path), [row(), row()]
    store.write([row()])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            store.write(rows)
        assert store.report(ALL).total.calls == 1  # reading goes on
        other.execute("COMMIT")

    store.write(rows)

    assert store.report(ALL).total.calls == 3
    store.close()


def test_another_use_in_this_process_takes_no_lock_away_from_who_writes(path: Path) -> None:
    """A file that is closed loses all locks that its process has on it; somebody else's look would then take the WAL for a left-over."""
    store, other = Sqlite(path), Sqlite(path)
    store.write([row()])
    other.write([row()])
    other.close()
    look = f"import sqlite3; print(sqlite3.connect({str(path)!r}).execute('SELECT count(*) FROM calls').fetchone()[0])"

    def seen() -> str:
        return subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.strip()

    assert seen() == "2"
    store.write([row()])
    assert seen() == "3"
    store.close()


def test_a_transaction_that_fails_keeps_none_of_its_rows(path: Path) -> None:
    store = Sqlite(path)
    with pytest.raises(StoreError, match="CHECK"):
        store.write([row(), row(cost_picodollars=-1)])

    assert store.report(ALL).total.calls == 0
    store.close()


def test_a_file_that_was_taken_away_is_made_anew(path: Path) -> None:
    store = Sqlite(path)
    store.write([row()])
    for file in path.parent.iterdir():
        file.unlink()

    store.write([row()])

    assert one(path, "SELECT count(*) FROM calls") == 1
    store.close()


def test_a_file_that_cannot_be_opened_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"Not a directory: .*/file/x"):
        Sqlite(tmp_path / "file" / "x" / "ledger.sqlite").write([row()])


def test_the_name_of_a_file_may_hold_what_a_url_must_not(tmp_path: Path) -> None:
    path = tmp_path / "what? 100%#.sqlite"
    store = Sqlite(path)
    store.write([row()])

    assert store.report(ALL).total.calls == 1
    assert path.exists()
    store.close()


def test_two_of_them_may_write_to_one_file(path: Path) -> None:
    mine, other = Sqlite(path), Sqlite(path)
    mine.write([row()])
    other.write([row()])

    assert mine.report(ALL).total.calls == 2
    mine.close()
    other.close()
