"""``ops/requirements.lock`` holds a version with hashes for everything that the project needs, and one that the project allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def lock() -> str:
    return (ROOT / "ops" / "requirements.lock").read_text(encoding="utf-8")


def test_every_requirement_is_locked_at_a_version_that_it_allows() -> None:
    locked = {canonicalize_name(name): version for name, version in LOCKED.findall(lock())}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    wanted = [Requirement(text) for text in project["project"]["dependencies"]]

    assert [r.name for r in wanted if not r.specifier.contains(locked.get(canonicalize_name(r.name), "0"))] == []


def test_every_locked_version_has_hashes() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9._-]+==)", lock(), flags=re.MULTILINE)[1:]

    assert blocks
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
