"""No guard of resilience can be taken out without a test that fails; and the list of them is up to date."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.project.guards import GUARDS, Guard

ROOT = Path(__file__).parents[2]
PARTS = ("supervisors", "runestone", "tests", "pyproject.toml")
ONE_TEST_SECONDS = 120
BY_NAME = pytest.mark.parametrize("guard", [pytest.param(guard, id=guard.what) for guard in GUARDS])


def run(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    limits = ["-m", "long or not long", "--timeout", f"{ONE_TEST_SECONDS}"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *limits, test]
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # a file that changes twice a second may be taken for its old self
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@cache
def passes_with_it(folder: Path, test: str) -> tuple[bool, str]:
    """Whether ``test`` passes while nothing is taken out, or its failure would prove nothing; several guards may share it."""
    done = run(folder, test)
    return done.returncode == 0, done.stdout[-4000:]


@BY_NAME
def test_a_guard_stands_once_where_the_list_says_and_its_test_exists(guard: Guard) -> None:
    assert (ROOT / guard.file).read_text(encoding="utf-8").count(guard.text) == 1
    ast.parse((ROOT / guard.file).read_text(encoding="utf-8").replace(guard.text, guard.without))
    file, _, name = guard.test.partition("::")
    found = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    functions = [node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert name.partition("[")[0] in functions


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project in a folder of its own."""
    folder = tmp_path_factory.mktemp("guards")
    for part in PARTS:
        source, target = ROOT / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.timeout(2 * ONE_TEST_SECONDS + 60)
@BY_NAME
def test_without_a_guard_its_test_fails(copy: Path, guard: Guard) -> None:
    passes, told = passes_with_it(copy, guard.test)
    assert passes, told
    file = copy / guard.file
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole.replace(guard.text, guard.without), encoding="utf-8")
    try:
        done = run(copy, guard.test)
    finally:
        file.write_text(whole, encoding="utf-8")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout[-4000:]
    assert "1 failed" in done.stdout
