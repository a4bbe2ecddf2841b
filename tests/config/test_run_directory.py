"""Where the admin socket is, and where what lasts is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runestone.config.run_directory import admin_socket, state_directory

MINE = f"runestone-{os.getuid()}"


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        (
            {"RUNESTONE_ADMIN_SOCKET": "/a/b.sock", "RUNTIME_DIRECTORY": "/run/r", "XDG_RUNTIME_DIR": "/run/user/1"},
            "/a/b.sock",
        ),
        ({"RUNESTONE_ADMIN_SOCKET": " ", "XDG_RUNTIME_DIR": "/run/user/1"}, "/run/user/1/runestone/admin.sock"),
        ({"RUNTIME_DIRECTORY": "/run/runestone", "XDG_RUNTIME_DIR": "/run/user/1"}, "/run/runestone/admin.sock"),
        ({"RUNTIME_DIRECTORY": "/run/one:/run/two"}, "/run/one/admin.sock"),
        ({"TMPDIR": "/var/tmp/x"}, f"/var/tmp/x/{MINE}/admin.sock"),
        ({"RUNESTONE_ADMIN_SOCKET_FILE": "/no/such/file", "TMPDIR": "/t"}, f"/t/{MINE}/admin.sock"),
    ],
)
def test_it_is_where_the_first_of_these_says(environ: dict[str, str], path: str) -> None:
    assert admin_socket(environ) == Path(path)


def test_a_file_may_hold_its_path(tmp_path: Path) -> None:
    file = tmp_path / "where"
    file.write_text("/a/b.sock\n")

    assert admin_socket({"RUNESTONE_ADMIN_SOCKET_FILE": str(file)}) == Path("/a/b.sock")


def test_without_anything_it_is_in_a_directory_of_ones_own() -> None:
    assert admin_socket({}).parts[-2:] == (MINE, "admin.sock")


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"STATE_DIRECTORY": "/var/lib/r:/x", "XDG_STATE_HOME": "/s", "HOME": "/home/me"}, "/var/lib/r"),
        ({"XDG_STATE_HOME": "/s", "HOME": "/home/me"}, "/s/runestone"),
        ({"HOME": "/home/me", "TMPDIR": "/t"}, "/home/me/.local/state/runestone"),
        ({"TMPDIR": "/t"}, f"/t/{MINE}"),
    ],
)
def test_what_lasts_is_kept_where_the_first_of_these_says(environ: dict[str, str], path: str) -> None:
    assert state_directory(environ) == Path(path)
