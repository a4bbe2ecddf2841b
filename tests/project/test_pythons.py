"""The promise of tox.ini: no CPython that is on the PATH goes untested."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
from virtualenv.discovery.builtin import get_interpreter

ROOT = Path(__file__).parents[2]
VERSIONS = ["3.11", "3.12", "3.13", "3.14", "3.15", "3.16"]


def works(version: str) -> bool:
    command = shutil.which(f"python{version}")
    if command is None:
        return False
    asked = subprocess.run(
        [command, "-c", "import sys; print(sys.implementation.name)"], capture_output=True, text=True, check=False
    )
    return asked.returncode == 0 and asked.stdout.strip() == "cpython"


@pytest.mark.parametrize("version", [v for v in VERSIONS if works(v)])
def test_a_cpython_on_the_path_has_an_environment_and_is_found_by_tox(version: str) -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")

    environments = tox["tox"]["env_list"].replace(" ", "").split(",")

    assert f"py{version.replace('.', '')}" in environments
    assert get_interpreter(version, []) is not None
