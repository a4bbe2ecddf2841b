"""A mutation run over the pure modules of ``supervisors`` with cosmic-ray: ``python ops/mutation [MODULE ...]``.

Each mutant is tried by the tests of its module. One that survives must be killed by a better test, or stand in ``explained.txt`` with the
reason why no test can tell it from the original; else the run fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_EXPLAINED = Path(__file__).with_name("explained.txt")
_TESTS = {
    "supervisors/restart.py": "tests/supervisors/test_pure.py tests/supervisors/test_extensions.py",
    "supervisors/strategy.py": "tests/supervisors/test_pure.py",
    "supervisors/ending.py": "tests/supervisors/test_pure.py",
    "supervisors/exit.py": "tests/supervisors/test_pure.py",
    "supervisors/deadlock.py": "tests/supervisors/test_extensions.py tests/supervisors/test_corners.py",
}
_CONFIG = """
[cosmic-ray]
module-path = "{module}"
timeout = 60.0
excluded-modules = []
test-command = "{python} -m pytest -q -x -p no:cacheprovider {tests}"
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*"]
"""  # the last: a union in an annotation


def main(modules: list[str]) -> int:
    """Run it; the exit code is 1 if a survivor has no explanation, or an explanation no survivor."""
    survivors: dict[str, list[str]] = {}
    explained = _explained()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("supervisors", "tests", "pyproject.toml"):
            source = _ROOT / part
            shutil.copytree(source, copy / part) if source.is_dir() else shutil.copy(source, copy / part)
        for module in modules or _TESTS:
            survivors[module] = _run(copy, module)
    found = {mutant for mutants in survivors.values() for mutant in mutants}
    for mutant in sorted(found - explained.keys()):
        print(f"survived, unexplained: {mutant}")
    told = {mutant for mutant in explained if mutant.split(":")[0] in survivors}
    for mutant in sorted(told - found):
        print(f"explained, but killed: {mutant}")
    return int(bool(found - explained.keys() or told - found))


def _run(copy: Path, module: str) -> list[str]:
    (copy / "config.toml").write_text(_CONFIG.format(module=module, python=sys.executable, tests=_TESTS[module]))
    session = copy / f"{Path(module).stem}.sqlite"
    for command in (
        ["cosmic-ray", "init", "config.toml", session.name],
        ["cr-filter-operators", session.name, "config.toml"],
        ["cosmic-ray", "exec", "config.toml", session.name],
    ):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr[-2000:]}")
    dump = subprocess.run(["cosmic-ray", "dump", session.name], cwd=copy, capture_output=True, text=True, check=True)
    results = [json.loads(line) for line in dump.stdout.splitlines()]
    tried = [(item, result) for item, result in results if result["worker_outcome"] == "normal"]
    survived = [_told(module, result["diff"]) for _, result in tried if result["test_outcome"] == "survived"]
    print(f"{module}: {len(tried)} mutants, {len(tried) - len(survived)} killed, {len(survived)} survived", flush=True)
    return sorted(set(survived))


def _told(module: str, diff: str) -> str:
    """A mutant as one line: what stood there, and what stands there now."""
    lines = diff.splitlines()
    old = [line[1:].strip() for line in lines if line.startswith("-") and not line.startswith("---")]
    new = [line[1:].strip() for line in lines if line.startswith("+") and not line.startswith("+++")]
    return f"{module}: {' '.join(old)} => {' '.join(new)}"


def _explained() -> dict[str, str]:
    """Mutant and reason, with `` # `` between them."""
    lines = _EXPLAINED.read_text(encoding="utf-8").splitlines() if _EXPLAINED.exists() else []
    pairs = [line.rpartition("  # ") for line in lines if line.strip() and not line.startswith("#")]
    return {mutant.strip(): reason for mutant, _, reason in pairs}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
