"""The description of the public port is true: a fuzzer that knows nothing else finds no 500 and no answer that is not in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

from tests.e2e.node import Gateway
from tests.support.plain import PLAIN

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_every_route_is_described_and_every_description_is_served(node: Gateway) -> None:
    described = httpx.get(f"{node.public_url}/openapi.json", **PLAIN).json()

    assert described["openapi"].startswith("3.1")
    for path, methods in described["paths"].items():
        for method in methods:
            url = node.public_url + path.replace("{model}", "gpt-4o-mini")
            answer = httpx.request(method.upper(), url, json={} if method == "post" else None, **PLAIN)
            assert answer.status_code == (400 if method == "post" else 200), (path, answer.text)
    missing = httpx.post(f"{node.public_url}/v1/nothing", json={}, **PLAIN).json()["error"]
    assert all(path in missing["message"] for path in described["paths"] if "{" not in path and path != "/v1/models")


def test_a_fuzzer_finds_no_500_and_nothing_that_is_not_described(node: Gateway, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{node.public_url}/openapi.json"]
    options = ["--checks", CHECKS, "--max-examples", "40", "--seed", "1", "--generation-database", "none"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=110, check=False, cwd=tmp_path
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "Selected: 8/8" in done.stdout
