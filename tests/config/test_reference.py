"""What may be set, as it is told to people and editors; and the commands that tell it, as processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runestone.config import reference
from runestone.config.build import build
from runestone.config.document import variables
from runestone.config.load import read


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runestone", "config", *arguments]
    root = str(Path(__file__).parents[2])
    variables_ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": root, **environ}
    return subprocess.run(command, env=variables_, capture_output=True, text=True, check=False, timeout=60)


def everything() -> str:
    """The commented file with every comment taken away that hides a key or a table."""
    return re.sub(r"^# (?=[a-z0-9_]+ = |\[)", "", reference.commented_file(), flags=re.MULTILINE)


def test_the_file_that_init_writes_passes_check_and_sets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runestone.toml"
    done = run("init", str(path))

    assert done.returncode == 0, done
    assert path.stat().st_mode & 0o777 == 0o600
    assert run("check", "--config", str(path)).returncode == 0
    assert [e for e in build(read({}, path), {}).entries if e.origin.startswith("runestone.toml")] == []
    assert run("init", str(path)).returncode == 1  # it is not overwritten


def test_every_line_of_it_means_something_and_the_defaults_it_tells_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text(everything().replace(f'sha256 = "{64 * "0"}"', ""))
    told = {"OPENAI_CUSTOM_API_KEY": "sk-x", "TEAM_SEARCH_KEY": "key"}

    with_all = {e.key: e.value for e in build(read(told, path), {}).entries}
    with_none = {e.key: e.value for e in build(read({}), {}).entries}

    shared = {
        key: value
        for key, value in with_none.items()
        if key.partition(".")[0] not in ("providers", "admin") and key not in ("events.file", "ledger.url")
    }
    assert {key: with_all[key] for key in shared} == shared
    assert {"providers.openai-custom.kind", "groups.critical-service.members", "keys.team-search.key"} <= set(with_all)


def test_the_schema_takes_what_init_writes_and_refuses_what_check_refuses() -> None:
    schema = json.loads(json.dumps(reference.schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    assert list(validator.iter_errors(tomllib.loads(everything()))) == []
    for text in ("[server]\nprot = 1", '[server]\nport = "x"', "[retry]\nmax_attempts = 0", "[nonsense]", "[providers]\na = 3",
                 '[failover]\nstrategy = "fastest"', "[providers.a]\ntimeout_ms = 0"):  # fmt: skip
        assert list(validator.iter_errors(tomllib.loads(text))), text
    for text in (
        '[models]\na = "b"',
        '[server]\nport = "${PORT}"',
        '[providers.a]\napi_key = { file = "/x" }',
        '[server]\nidle_timeout_ms = "2s"',
    ):
        assert list(validator.iter_errors(tomllib.loads(text))) == [], text


def test_check_tells_everything_at_once_and_ends_with_78(tmp_path: Path) -> None:
    path = tmp_path / "runestone.toml"
    path.write_text('[server]\nprot = 1\n[retry]\njitter = "maybe"\n')

    done = run("check", "--config", str(path), OPENAI_TIMEOUT="soon")

    assert done.returncode == 78
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["runestone.toml", "runestone.toml", "env"]
    assert "Traceback" not in done.stderr
    as_json = json.loads(run("check", "--json", "--config", str(path)).stdout)
    assert (as_json["ok"], len(as_json["problems"])) == (False, 2)


def test_check_tells_the_worst_case_that_the_settings_allow() -> None:
    told = {"OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b"}

    def worst(**more: str) -> Any:
        return json.loads(run("check", "--json", **told, **more).stdout)["worst_case"]

    assert worst() == {"upstream_calls": 4, "seconds": 480.0}
    assert worst(RETRY_MAX_ATTEMPTS="1") == {"upstream_calls": 2, "seconds": 240.0}
    assert worst(RUNESTONE_MAX_UPSTREAM_CALLS="9") == {"upstream_calls": 6, "seconds": 600.0}


def test_check_online_asks_each_provider_and_says_which_one_fails() -> None:
    done = run("check", "--online", "--json", OPENAI_API_KEY="sk-x", OPENAI_BASE_URL="http://127.0.0.1:9/v1")

    assert done.returncode == 4
    assert json.loads(done.stdout)["online"]["openai-default"]["ok"] is False


def test_check_strict_makes_a_warning_an_error() -> None:
    assert run("check", RUNESTONE_PROT="1").returncode == 0
    strict = run("check", "--strict", RUNESTONE_PROT="1")

    assert strict.returncode == 78
    assert "warning: env:RUNESTONE_PROT: no such setting; did you mean RUNESTONE_PORT?" in strict.stdout


def test_show_tells_what_differs_from_the_defaults_and_masks_secrets() -> None:
    told = {"OPENAI_API_KEY": "sk-canary", "RETRY_MAX_ATTEMPTS": "5"}
    rows = json.loads(run("show", "--json", **told).stdout)["settings"]

    found = {row["key"]: (row["value"], row["origin"]) for row in rows}
    assert found["providers.openai-default.api_key"] == ("***", "env:OPENAI_API_KEY")
    assert found["retry.max_attempts"] == (5, "env:RETRY_MAX_ATTEMPTS")
    assert "server.port" not in found
    effective = run("show", "--effective", "--origin", **told).stdout
    assert re.search(r"^server\.port +4003 +default$", effective, re.MULTILINE)
    assert "canary" not in effective


@pytest.mark.parametrize("key", ["retry.base_delay_ms", "providers.openai-custom.timeout_ms", "groups.NAME.weights"])
def test_explain_tells_what_a_key_means(key: str) -> None:
    done = run("explain", key)

    assert done.returncode == 0
    assert "meaning" in done.stdout


def test_explain_names_the_nearest_key() -> None:
    done = run("explain", "retry.base_delay")

    assert done.returncode == 3
    assert "did you mean retry.base_delay_ms?" in done.stderr


def test_env_lists_every_variable() -> None:
    told = run("env").stdout

    assert [line.split()[0] for line in told.splitlines()[1:]] == list(variables())


def test_a_schema_is_json() -> None:
    assert json.loads(run("schema").stdout)["title"] == "runestone.toml"


def test_the_readme_s_example_is_a_file_that_check_takes(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    path = tmp_path / "runestone.toml"
    path.write_text(readme.partition("```toml\n")[2].partition("```")[0])
    told = {"OPENAI_CUSTOM_API_KEY": "a", "SEARCH_TEAM_KEY": "b", "OPENAI_API_KEY": "c"}

    found = json.loads(run("check", "--strict", "--json", "--config", str(path), **told).stdout)

    assert found["ok"]
    assert found["groups"]["critical-service"] == ["openai-default", "openai-custom"]
    jsonschema.validate(tomllib.loads(path.read_text()), reference.schema(), jsonschema.Draft202012Validator)


def test_the_readme_names_every_variable() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()

    assert [name for name in variables() if f"`{name}`" not in readme] == []
