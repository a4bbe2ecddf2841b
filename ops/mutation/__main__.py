"""A mutation run over pure modules with cosmic-ray: ``python ops/mutation [MODULE ...]``, by default all that pyproject.toml names.

Each mutant is tried by the tests of its module, which must pass without one. One that survives must be killed by a better test, or stand in
``explained.txt`` with the reason why no test can tell it from the original; else the run fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_EXPLAINED = Path(__file__).with_name("explained.txt")
_TESTS: dict[str, str] = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutation"]
_CONFIG = """
[cosmic-ray]
module-path = "{module}"
timeout = 60.0
excluded-modules = []
test-command = "{python} -m pytest -q -x -p no:cacheprovider --hypothesis-seed=0 {tests}"
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*"]
"""  # the last: a union of types is no arithmetic


def main(modules: list[str]) -> int:
    """Run it; the exit code is 1 if a survivor has no explanation, or an explanation no survivor."""
    found: Counter[str] = Counter()
    tried = modules or list(_TESTS)
    explained = _explained()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("supervisors", "runestone", "tests", "pyproject.toml"):
            source = _ROOT / part
            shutil.copytree(source, copy / part) if source.is_dir() else shutil.copy(source, copy / part)
        for module in tried:
            found += _run(copy, module)
    told = Counter(mutant for mutant in explained if mutant.split(":")[0] in tried)
    for mutant in sorted((found - told).elements()):
        print(f"survived, unexplained: {mutant}")
    for mutant in sorted((told - found).elements()):
        print(f"explained, but killed: {mutant}")
    return int(found != told)


def _run(copy: Path, module: str) -> Counter[str]:
    (copy / "config.toml").write_text(_CONFIG.format(module=module, python=sys.executable, tests=_TESTS[module]))
    began = time.monotonic()
    _command(copy, "cosmic-ray", "baseline", "config.toml")
    _command(copy, "cosmic-ray", "init", "--force", "config.toml", "session.sqlite")
    _command(copy, "cr-filter-operators", "session.sqlite", "config.toml")
    _command(copy, "cosmic-ray", "exec", "config.toml", "session.sqlite")
    lines = [json.loads(line) for line in _command(copy, "cosmic-ray", "dump", "session.sqlite").splitlines()]
    tried = [(item, result) for item, result in lines if result["worker_outcome"] != "skipped"]
    outcomes = Counter(result["test_outcome"] for _, result in tried)
    if unknown := outcomes.keys() - {"killed", "survived"}:
        raise RuntimeError(f"{module}: mutants that were not tried: {unknown}")
    if not tried:
        raise RuntimeError(f"{module}: nothing in it to mutate")
    seconds = time.monotonic() - began
    print(
        f"{module}: {len(tried)} mutants, {outcomes['killed']} killed, {outcomes['survived']} survived, {seconds:.0f} s",
        flush=True,
    )
    return Counter(
        _told(module, item, result["diff"]) for item, result in tried if result["test_outcome"] == "survived"
    )


def _command(copy: Path, *command: str) -> str:
    """What it prints. Raises ``RuntimeError`` if it fails."""
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _told(module: str, item: dict[str, Any], diff: str) -> str:
    """A mutant as one line: where, what stood there, and what stands there now."""
    lines = diff.splitlines()
    old = [line[1:].strip() for line in lines if line.startswith("-") and not line.startswith("---")]
    new = [line[1:].strip() for line in lines if line.startswith("+") and not line.startswith("+++")]
    return f"{module}:{item['mutations'][0]['definition_name'] or ''}: {' '.join(old)} => {' '.join(new)}"


def _explained() -> list[str]:
    """Mutants that have a reason after ``  # ``, one a line; equal ones as often as they survive."""
    lines = _EXPLAINED.read_text(encoding="utf-8").splitlines()
    return [line.rpartition("  # ")[0] for line in lines if line.strip() and not line.startswith("#")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
