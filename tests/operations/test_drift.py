"""What was changed at run time and stands nowhere else: it is told until file and variables give the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runestone.config.build import build
from runestone.config.live import Live
from runestone.config.load import read
from runestone.config.overlay import Overlay
from runestone.configuration import Memory
from runestone.operations.drift import Drift

LATE = '[providers.late]\nkind = "openai"\napi_key = "sk-late"\n'


def memory(folder: Path, text: str = "", overlay: dict[str, Any] | None = None) -> Memory:
    file = folder / "runestone.toml"
    file.write_text(text)
    sources = read({"OPENAI_API_KEY": "sk-one"}, file)
    loaded = build(sources, overlay or {})
    made = Memory(read=lambda: sources, sources=sources, live=Live(loaded.settings), loaded=loaded)
    made.overlay = Overlay(overlay or {})
    return made


def unsaved(folder: Path, text: str, overlay: dict[str, Any]) -> list[str]:
    return Drift().unsaved(memory(folder, text, overlay))


@pytest.mark.parametrize(
    ("overlay", "keys", "saved"),
    [
        ({"log": {"level": "DEBUG"}}, ["log.level"], '[log]\nlevel = "DEBUG"\n'),
        (
            {"groups": {"mine": {"members": ["openai-default"]}}},
            ["groups.mine.members"],
            '[groups.mine]\nmembers = ["openai-default"]\n',
        ),
        (
            {"providers": {"late": {"kind": "openai", "api_key": "sk-late"}}},
            ["providers.late.api_key", "providers.late.kind"],
            LATE,
        ),
        (
            {"breakers": {"openai-default": {"failure_threshold": 9}}},
            ["breakers.openai-default.failure_threshold"],
            '[providers.openai-default]\nkind = "openai"\ncircuit_breaker = { failure_threshold = 9 }\n',
        ),
    ],
)
def test_a_change_is_unsaved_until_the_file_says_the_same(
    tmp_path: Path, overlay: dict[str, Any], keys: list[str], saved: str
) -> None:
    assert unsaved(tmp_path, "", overlay) == keys
    assert unsaved(tmp_path, saved, overlay) == []


def test_what_was_taken_away_is_unsaved_while_the_file_has_it(tmp_path: Path) -> None:
    gone: dict[str, Any] = {"providers": {"late": None}}

    assert unsaved(tmp_path, LATE, gone) == ["providers.late"]
    assert unsaved(tmp_path, "", gone) == []


def test_what_waits_for_a_provider_that_is_not_there_is_unsaved(tmp_path: Path) -> None:
    assert unsaved(tmp_path, "", {"breakers": {"nobody": {"failure_threshold": 9}}}) == [
        "breakers.nobody.failure_threshold"
    ]


def test_without_changes_nothing_is(tmp_path: Path) -> None:
    drift, held = Drift(), memory(tmp_path, LATE)

    assert drift.unsaved(held) == []
    assert drift.base(held) is held.loaded


def test_a_file_that_stands_on_a_change_makes_all_changes_unsaved(tmp_path: Path) -> None:
    overlay = {"providers": {"late": {"kind": "openai", "api_key": "sk-late"}}}
    held = memory(tmp_path, '[groups.mine]\nmembers = ["late"]\n', overlay)

    assert Drift().base(held) is None
    assert Drift().unsaved(held) == ["providers.late.api_key", "providers.late.kind"]
    assert Drift().before(held) == {}


def test_what_was_before_is_told_by_the_same_path_and_no_key_is(tmp_path: Path) -> None:
    text = LATE + 'circuit_breaker = { failure_threshold = 7 }\n[log]\nlevel = "ERROR"\n'
    overlay = {"log": {"level": "DEBUG"}, "breakers": {"late": {"failure_threshold": 9}}}

    before = Drift().before(memory(tmp_path, text, overlay))

    assert before["log", "level"].shown == "ERROR"
    assert before["breakers", "late", "failure_threshold"].shown == 7
    assert "sk-late" not in str(before)


def test_what_file_and_variables_give_is_built_once_for_each_change(tmp_path: Path) -> None:
    drift, held = Drift(), memory(tmp_path, "", {"log": {"level": "DEBUG"}})
    first = drift.base(held)

    assert drift.base(held) is first
    held.overlay = Overlay({"log": {"level": "INFO"}})
    assert drift.base(held) is not first
