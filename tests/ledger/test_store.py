"""What both stores do alike: each row once, exact sums, unknown costs apart, whatever names there are, forgetting by time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from runestone.domain.secret import Secret
from runestone.ledger.postgres import PostgresStore
from runestone.ledger.report import MOST_LINES, OTHERS, By, Costs, Query
from runestone.ledger.row import Row
from runestone.ledger.sqlite import Sqlite
from runestone.ledger.store import Store
from tests.ledger.rows import DAY, row
from tests.ledger.server import Server

pytestmark = pytest.mark.anyio
HOUR = 3_600_000
MOST = 2**63 - 1


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Direct:
    """A file of SQLite without threads."""

    def __init__(self, path: Path) -> None:
        self.file = Sqlite(path)

    async def write(self, rows: Sequence[Row]) -> None:
        self.file.write(rows)

    async def report(self, query: Query) -> Costs:
        return self.file.report(query)

    async def prune(self, before_ms: int, most: int) -> int:
        return self.file.prune(before_ms, most)

    async def close(self) -> None:
        self.file.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    one: Store
    if request.param == "sqlite":
        one = Direct(tmp_path / "ledger.sqlite")
    else:
        server: Server = request.getfixturevalue("postgres")
        one = PostgresStore(Secret(server.url))
    yield one
    await one.close()


async def asked(store: Store, by: By = "provider", since: int = 0, until: int = 2 * DAY) -> Costs:
    return await store.report(Query(since_ms=since, until_ms=until, by=by))


async def test_an_empty_ledger_has_no_line_and_a_total_of_nothing(store: Store) -> None:
    found = await asked(store)

    assert found.lines == ()
    assert (found.total.calls, found.total.input_tokens, found.total.cost_picodollars) == (0, 0, None)


async def test_a_row_that_is_written_twice_counts_once(store: Store) -> None:
    one, two = row(), row()

    await store.write([one])
    await store.write([one, two])

    assert (await asked(store)).total.calls == 2


async def test_sums_are_exact_beyond_what_a_float_or_64_bits_hold(store: Store) -> None:
    await store.write([row(cost_picodollars=MOST), row(cost_picodollars=MOST), row(cost_picodollars=1)])

    assert (await asked(store)).total.cost_picodollars == 2 * MOST + 1


async def test_tokens_are_added_up(store: Store) -> None:
    await store.write(
        [row(), row(input_tokens=2**31 - 1), row(input_tokens=None, output_tokens=None, cached_tokens=None)]
    )
    total = (await asked(store)).total

    assert (total.input_tokens, total.output_tokens, total.cached_tokens) == (10 + 2**31 - 1, 40, 2)
    assert (total.cache_write_tokens, total.reasoning_tokens) == (6, 9)


async def test_an_unknown_cost_is_counted_apart_and_is_never_0(store: Store) -> None:
    await store.write(
        [row(provider="a"), row(provider="a", cost_picodollars=None), row(provider="b", cost_picodollars=None)]
    )
    found = await asked(store)

    assert [(ln.name, ln.cost_picodollars, ln.unknown_cost_calls) for ln in found.lines] == [
        ("a", 5, 1),
        ("b", None, 1),
    ]
    assert (found.total.cost_picodollars, found.total.unknown_cost_calls) == (5, 2)


async def test_a_request_counts_once_however_many_calls_it_took(store: Store) -> None:
    await store.write([row(number=1, provider="a"), row(number=2, provider="a"), row(number=3, provider="b")])
    found = await asked(store)

    assert {ln.name: (ln.calls, ln.requests) for ln in found.lines} == {"a": (2, 1), "b": (1, 0)}


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("provider", {"a", "b"}), ("model", {"gpt-4o-mini", "m2"}), ("key", {"team", ""}), ("group", {"g", "h"}), ("outcome", {"ok", "dns"}),
        ("day", {"2026-11-01", "2026-11-02"}), ("hour", {"2026-11-01T00:00Z", "2026-11-02T01:00Z"}),
    ],
)  # fmt: skip
async def test_lines_are_by_what_was_asked(store: Store, by: By, names: set[str]) -> None:
    other = row(provider="b", model="m2", key_name="", group_name="h", outcome="dns", ended_ms=DAY + 25 * HOUR)
    await store.write([row(ended_ms=DAY + HOUR - 1), other])

    assert {line.name for line in (await asked(store, by)).lines} == names


async def test_the_first_moment_counts_and_the_last_does_not(store: Store) -> None:
    await store.write([row(ended_ms=DAY - 1), row(ended_ms=DAY), row(ended_ms=DAY + 1), row(ended_ms=DAY + 2)])

    assert (await asked(store, since=DAY, until=DAY + 2)).total.calls == 2


async def test_the_most_expensive_is_first_and_who_is_unknown_last(store: Store) -> None:
    await store.write([
        row(model="cheap", cost_picodollars=1_000_000), row(model="unknown", cost_picodollars=None), row(model="dear", cost_picodollars=9_000_000),
    ])  # fmt: skip

    assert [line.name for line in (await asked(store, "model")).lines] == ["dear", "cheap", "unknown"]


async def test_of_more_names_than_anybody_reads_the_rest_is_one_line(store: Store) -> None:
    await store.write([row(model=f"m{n}") for n in range(MOST_LINES + 5)])
    found = await asked(store, "model")

    assert (len(found.lines), found.lines[-1].name, found.lines[-1].calls) == (MOST_LINES + 1, OTHERS, 5)
    assert sum(line.cost_picodollars or 0 for line in found.lines) == found.total.cost_picodollars


@pytest.mark.parametrize(
    "name",
    [
        "'; DROP TABLE calls; --",
        'a"b`c',
        "a\\b%_",
        "\x1b[2J",
        "\u202e\u2028",
        "\U0001f600",
        "",
        "\ufffd",
        "NULL",
        "x" * 200,
    ],
)
async def test_a_hostile_name_is_a_name(store: Store, name: str) -> None:
    await store.write([row(model=name)])

    assert [line.name for line in (await asked(store, "model")).lines] == [name]


async def test_what_is_old_is_forgotten_some_at_a_time(store: Store) -> None:
    await store.write([row(ended_ms=DAY + n) for n in range(5)])

    assert [await store.prune(DAY + 3, 2) for _ in range(3)] == [2, 1, 0]
    assert (await asked(store)).total.calls == 2


async def test_a_store_that_was_closed_is_opened_by_its_next_use(store: Store) -> None:
    await store.write([row()])
    await store.close()
    await store.write([row()])

    assert (await asked(store)).total.calls == 2
