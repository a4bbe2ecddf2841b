"""The URL of the ledger: where it comes from, which file it names, and that its password is told nowhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from runestone.config.build import Loaded, build
from runestone.config.ledger import default_url, is_postgres, shown_url, sqlite_path
from runestone.config.load import read, with_simulated
from runestone.config.settings import ConfigurationError
from runestone.domain.secret import Secret

POSTGRES = "postgresql://me:canary-password@db.internal:5433/books?sslmode=require"


def loaded(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Loaded:
    path = tmp_path / "runestone.toml"
    path.write_text(text)
    return build(read(environ or {}, path), {})


def url(found: Loaded) -> str | None:
    held = found.settings.ledger.url
    return None if held is None else held.reveal()


def test_unset_it_is_a_file_in_the_state_directory_and_for_simulated_providers_another_one() -> None:
    environ = {"HOME": "/home/a b"}
    demo = with_simulated(read(environ), openai_url="http://127.0.0.1:1/v1", anthropic_url="http://127.0.0.1:2/v1")

    assert (
        url(build(read(environ), {}))
        == default_url(environ)
        == "sqlite:///home/a%20b/.local/state/runestone/ledger.sqlite"
    )
    assert url(build(demo, {})) == "sqlite:///home/a%20b/.local/state/runestone/ledger-demo.sqlite"
    assert sqlite_path(Secret(default_url(environ))) == Path("/home/a b/.local/state/runestone/ledger.sqlite")


def test_who_says_where_says_it_for_simulated_providers_too() -> None:
    sources = read({"RUNESTONE_LEDGER_URL": "sqlite:///tmp/x"})

    assert (
        url(build(with_simulated(sources, openai_url="http://h/v1", anthropic_url="http://h/v1"), {}))
        == "sqlite:///tmp/x"
    )


@pytest.mark.parametrize("place", ['{ env = "THE_URL" }', '{ file = "FOLDER/url" }', '"${THE_URL}"'])
def test_it_may_be_in_a_variable_or_a_file(tmp_path: Path, place: str) -> None:
    (tmp_path / "url").write_text(POSTGRES + "\n")
    text = f"[ledger]\nurl = {place.replace('FOLDER', str(tmp_path))}\n"

    assert url(loaded(tmp_path, text, {"THE_URL": POSTGRES})) == POSTGRES
    assert url(loaded(tmp_path, text, {"THE_URL": POSTGRES, "RUNESTONE_LEDGER_URL": "none"})) is None


def test_a_place_where_nothing_is_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as told:
        loaded(tmp_path, '[ledger]\nurl = { env = "THE_URL" }\n')

    assert str(told.value) == "runestone.toml:2: ledger.url: is not there; got an unset variable; allowed: set THE_URL"


def test_its_password_is_shown_nowhere(tmp_path: Path) -> None:
    found = loaded(tmp_path, f'[ledger]\nurl = "{POSTGRES}"\n')
    (entry,) = (entry for entry in found.entries if entry.key == "ledger.url")

    assert entry.shown == "postgresql://***@db.internal:5433/books"
    assert "canary" not in repr(found.settings) + repr(entry)
    assert found.settings.warnings == (
        "runestone.toml:2: ledger.url: a password in a file that others can read; chmod 600 it, or name the URL's place",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "mysql://me:canary@h/d",
        "me:canary@h",
        "postgresql://",
        "sqlite:///",
        "sqlite:///x?mode=canary",
        "sqlite://me:canary@h/x",
        "postgresql://[canary/d",
    ],
)
def test_what_is_no_url_of_a_ledger_is_refused_without_what_may_be_secret_in_it(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        loaded(tmp_path, "", {"RUNESTONE_LEDGER_URL": wrong})

    assert str(told.value).startswith("env:RUNESTONE_LEDGER_URL: is not the URL of a ledger; got ")
    assert ":canary" not in str(told.value)
    assert "=canary" not in str(told.value)


def test_without_the_driver_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str, *_: Any) -> None:
        assert name == "asyncpg"

    monkeypatch.setattr(importlib.util, "find_spec", nowhere)
    with pytest.raises(
        ConfigurationError, match=r"needs the extra \[postgres\]; .*pip install 'runestone\[postgres\]'"
    ):
        loaded(tmp_path, "", {"RUNESTONE_LEDGER_URL": POSTGRES})


def test_which_database_it_is() -> None:
    assert [is_postgres(Secret(u)) for u in (POSTGRES, "postgres://h/d", "sqlite:///x", "none")] == [
        True,
        True,
        False,
        False,
    ]
    assert sqlite_path(Secret("sqlite:////var/x")) == sqlite_path(Secret("sqlite:///var/x")) == Path("/var/x")
    assert [shown_url(Secret(u)) for u in ("none", "sqlite:///var/x", "canary")] == ["none", "sqlite:///var/x", "***"]
