"""The history file: its owner's alone, and never a line that may hold a key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from runestone.console.repl.history import History, harmless, history_file


@pytest.mark.parametrize(
    "line",
    [
        "provider add x --kind openai --api-key sk-canary0123456789",
        "provider add x --api-key=canary",
        "sk-proj-canary0123456789",
        "provider set x --base-url https://h/v1 Bearer canary0123",
        "gsk_canary0123456789",
        "4f9d2c81ab77e0934f9d2c81ab77e093",
        "fault x AbC123dEf456GhI789jKl012mNo345",
        "provider add x --password hunter2",
        "OPENAI_API_KEY=canary01 provider add x",
        "provider test openai-default --prompt 'What is wrong with me?'",
        "prov te openai-default --p=hello --stream",
    ],
)
def test_what_may_hold_a_key_is_not_written(tmp_path: Path, line: str) -> None:
    history = History(tmp_path / "state" / "history", lambda _: True)

    history.append_string(line)

    assert not harmless(line)
    assert history.get_strings() == [line]  # known to the session
    assert (tmp_path / "state" / "history").read_text() == ""


@pytest.mark.parametrize(
    "line",
    [
        "providers | grep open",
        "provider add x --kind openai --key-stdin",
        "provider set openai-default --key-env OPENAI_API_KEY --timeout 120s",
        "failover explain default-chat-service --model gpt-4o-mini-2024-07-18",
        "events --request req_0123456789abcdef01234567",
        "actor show runestone/node/fleet/providers/anthropic-default/transport",
        "events --provider openai-default --last 5",
        "provider set openai-default --probe-interval 30s",
        "provider test openai-default --stream",
        r"\watch 2s",
    ],
)
def test_what_operators_type_is_kept(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history"

    History(path, lambda _: True).append_string(line)

    assert harmless(line)
    assert f"+{line}\n" in path.read_text()


def test_what_is_no_command_is_not_written(tmp_path: Path) -> None:
    History(tmp_path / "history", lambda _: False).append_string("hunter2")

    assert (tmp_path / "history").read_text() == ""


def test_the_file_and_its_directory_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    path.parent.mkdir(mode=0o755)
    path.write_text("")
    path.chmod(0o644)

    History(path, lambda _: True)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    fresh = tmp_path / "fresh" / "history"
    History(fresh, lambda _: True)
    assert stat.S_IMODE(fresh.parent.stat().st_mode) == 0o700


def test_it_is_in_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    assert history_file() == tmp_path / "runestone" / "history"
