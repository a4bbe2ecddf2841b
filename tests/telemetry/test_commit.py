"""The commit that runs: by PEP 610's record, by Git's own files, else unknown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runestone.telemetry.commit import checked_out, recorded

ID = "0123456789abcdef0123456789abcdef01234567"


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "feature/a")
    git(folder, "commit", "-q", "--allow-empty", "-m", "one")
    return folder


def test_a_checkout_tells_the_commit_it_stands_at_however_git_keeps_it(checkout: Path) -> None:
    first = git(checkout, "rev-parse", "HEAD")
    assert checked_out(checkout) == first

    git(checkout, "pack-refs", "--all")
    assert not (checkout / ".git/refs/heads/feature/a").exists()
    assert checked_out(checkout) == first

    git(checkout, "commit", "-q", "--allow-empty", "-m", "two")
    second = git(checkout, "rev-parse", "HEAD")
    assert checked_out(checkout) == second != first

    git(checkout, "checkout", "-q", "--detach", first)
    assert checked_out(checkout) == first


def test_a_work_tree_tells_its_own_commit(checkout: Path) -> None:
    git(checkout, "worktree", "add", "-q", "-b", "other", "../tree")
    tree = checkout.parent / "tree"
    git(tree, "commit", "-q", "--allow-empty", "-m", "two")

    assert checked_out(tree) == git(tree, "rev-parse", "HEAD") != checked_out(checkout)


def test_a_folder_that_is_no_checkout_or_a_spoilt_one_has_none(tmp_path: Path) -> None:
    assert checked_out(tmp_path) is None
    (tmp_path / ".git").mkdir()
    for head in (b"", b"ref: refs/heads/gone", b"\xff\xfe", b"no commit", b"ref: \0"):
        (tmp_path / ".git/HEAD").write_bytes(head)
        assert checked_out(tmp_path) is None


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (json.dumps({"url": "https://a/b", "vcs_info": {"vcs": "git", "commit_id": ID}}), ID),
        (json.dumps({"url": "file:///a", "dir_info": {"editable": True}}), None),
        (json.dumps({"vcs_info": {"commit_id": "https://user:secret@host"}}), None),
        (json.dumps({"vcs_info": {"commit_id": 7}}), None),
        (json.dumps({"vcs_info": [ID]}), None),
        ("[]", None),
        ("{", None),
        (None, None),
    ],
)
def test_the_record_of_an_installation_tells_a_commit_or_none(record: str | None, found: str | None) -> None:
    assert recorded(record) == found


def test_what_runs_from_a_checkout_has_its_commit() -> None:
    here = Path(__file__).parents[2]
    program = "from runestone.telemetry.commit import commit; print(commit())"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(here)}, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == (checked_out(here) or "unknown")
