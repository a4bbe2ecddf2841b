"""The ledger in a real PostgreSQL: gone and back, two nodes at once, a role that may only write, a newer schema, an unseen password."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attrs import evolve

from runestone.domain.secret import Secret
from runestone.ledger.postgres import MIGRATIONS, PostgresStore
from runestone.ledger.report import Query
from runestone.ledger.store import StoreError
from tests.ledger.rows import DAY, row
from tests.ledger.server import Server

pytestmark = pytest.mark.anyio
ALL = Query(since_ms=0, until_ms=2 * DAY, by="provider")
FURTHER = (*MIGRATIONS, ("ALTER TABLE runestone_calls ADD COLUMN ward text NOT NULL DEFAULT 'eu'",))

VERSION_1 = Path(__file__).parent / "version_1" / "postgres.sql"  # as a node of that version has made it


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_server_that_was_gone_is_used_again(postgres: Server) -> None:
    store, rows = PostgresStore(Secret(postgres.url)), [row(), row()]
    await store.write([row()])
    postgres.stop()
    for _ in range(2):
        with pytest.raises(StoreError) as told:
            await store.write(rows)
        assert "canary-password" not in str(told.value)
    with pytest.raises(StoreError):
        await store.report(ALL)
    postgres.start()

    await store.write(rows)

    assert (await store.report(ALL)).total.calls == 3
    await store.close()


async def test_a_server_that_was_restarted_between_two_writes_is_no_failure(postgres: Server) -> None:
    store = PostgresStore(Secret(postgres.url))
    await store.write([row()])
    postgres.stop()
    postgres.start()
    await asyncio.sleep(0.1)

    await store.write([row()])

    assert (await store.report(ALL)).total.calls == 2
    await store.close()


async def test_two_nodes_that_start_at_once_make_one_schema(postgres: Server) -> None:
    stores = [PostgresStore(Secret(postgres.url)) for _ in range(5)]

    await asyncio.gather(*(store.write([row()]) for store in stores))

    assert (await stores[0].report(ALL)).total.calls == 5
    assert postgres.run("SELECT version FROM runestone_ledger") == str(len(MIGRATIONS))
    for store in stores:
        await store.close()


async def test_a_schema_of_an_older_version_keeps_its_rows_and_one_of_a_newer_is_left_alone(postgres: Server) -> None:
    old, new = PostgresStore(Secret(postgres.url)), PostgresStore(Secret(postgres.url), FURTHER)
    await old.write([row()])
    await new.write([row()])

    assert (await new.report(ALL)).total.calls == 2
    with pytest.raises(StoreError, match="of a newer version"):
        await PostgresStore(Secret(postgres.url)).write([row()])
    await old.close()
    await new.close()


async def test_a_database_of_version_1_keeps_its_rows_and_takes_the_new_ones(postgres: Server) -> None:
    postgres.run(VERSION_1.read_text(encoding="utf-8"))
    store = PostgresStore(Secret(postgres.url))
    assert (await store.report(ALL)).total.calls == 3

    await store.write(
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
    found = await store.report(evolve(ALL, by="tier"))

    assert {line.name: line.calls for line in found.lines} == {"unknown": 3, "batch": 1}
    total = found.total
    assert (total.cache_write_1h_tokens, total.audio_input_tokens, total.audio_output_tokens) == (1, 2, 3)
    assert (total.web_searches, total.batch_calls, total.calls, total.unknown_cost_calls) == (4, 1, 4, 1)
    assert total.told_cost_calls == 1
    assert total.cost_picodollars == 150_000_000 + 7 + 5
    assert postgres.run("SELECT version FROM runestone_ledger") == str(len(MIGRATIONS)) == "2"
    assert postgres.run("SELECT count(*) FROM runestone_calls WHERE web_searches IS NULL AND region IS NULL") == "3"
    await store.close()


async def test_a_node_of_version_1_that_is_connected_goes_on_and_one_that_connects_is_told_what_to_do(
    postgres: Server,
) -> None:
    postgres.run(VERSION_1.read_text(encoding="utf-8"))
    store = PostgresStore(Secret(postgres.url))
    await store.write([row()])
    columns = postgres.run(
        "SELECT string_agg(column_name, ', ' ORDER BY ordinal_position) FILTER (WHERE ordinal_position <= 20) "
        "FROM information_schema.columns WHERE table_name = 'runestone_calls'"
    )

    postgres.run(
        f"INSERT INTO runestone_calls ({columns}) SELECT gen_random_uuid(), {columns.partition(', ')[2]} FROM runestone_calls LIMIT 1"
    )
    with pytest.raises(StoreError, match=r"newer version \(2; this one knows 1\): run the runestone that made it"):
        await PostgresStore(Secret(postgres.url), MIGRATIONS[:1]).write([row()])

    assert (await store.report(ALL)).total.calls == 5
    await store.close()


async def test_a_write_that_was_cancelled_leaves_the_next_one_a_connection(postgres: Server) -> None:
    store = PostgresStore(Secret(postgres.url))
    await store.write([row()])
    postgres.run(
        "CREATE FUNCTION nap() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END' LANGUAGE plpgsql"
    )
    postgres.run("CREATE TRIGGER nap BEFORE INSERT ON runestone_calls FOR EACH ROW EXECUTE FUNCTION nap()")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await store.write([row()])
    assert store._connection is None  # whatever it was in the middle of
    postgres.run("DROP FUNCTION nap CASCADE")

    await store.write([row()])

    assert (await store.report(ALL)).total.calls == 2
    await store.close()


async def test_a_wrong_password_is_told_without_it(postgres: Server) -> None:
    with pytest.raises(StoreError) as told:
        await PostgresStore(Secret(postgres.url.replace("canary-", "wrong-"))).write([row()])

    assert "authentication failed" in str(told.value)
    assert "wrong-password" not in str(told.value)


async def test_who_may_only_read_and_write_the_tables_needs_no_more(postgres: Server) -> None:
    store = PostgresStore(Secret(postgres.url))
    await store.write([row()])
    await store.close()
    postgres.run("DROP ROLE IF EXISTS clerk")
    postgres.run("CREATE ROLE clerk LOGIN PASSWORD 'canary-password'")
    postgres.run("GRANT SELECT, INSERT ON runestone_calls, runestone_ledger TO clerk")

    clerk = PostgresStore(Secret(postgres.url.replace("//runestone:", "//clerk:")))
    await clerk.write([row()])

    assert (await clerk.report(ALL)).total.calls == 2
    await clerk.close()
