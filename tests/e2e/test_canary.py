"""A key planted in every place where a secret can stand appears nowhere: no answer, no log, no listing, no error, no export."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.e2e.node import Gateway, Upstream
from tests.e2e.streams import HELLO

CANARY = "canary0123456789"
FILE = """
[providers.literal]
kind = "openai"
base_url = "{url}"
api_key = "sk-{canary}-literal"
headers = {{ x-secret = "{canary}-header" }}

[providers.named]
kind = "openai"
base_url = "{url}"
api_key = {{ env = "NAMED_KEY" }}

[providers.filed]
kind = "openai"
base_url = "{url}"
api_key = {{ file = "{folder}/key" }}

[keys.mine]
key = "{canary}-inbound"

[events]
file = "{folder}/events.jsonl"
"""
READS = (
    ("status",), ("tree",), ("providers",), ("provider", "show", "literal"), ("breaker", "list"), ("group", "list"),
    ("failover", "show", "default-chat-service"), ("failover", "explain", "default-chat-service", "--model", "gpt-4o"),
    ("health", "check", "all"), ("metrics", "all"), ("events", "--last", "1000"), ("config", "show"), ("config", "diff"), ("config", "export"),
    ("actor", "show", "failover"), ("actor", "state", "failover"), ("actor", "state", "provider:literal"), ("actor", "state", "configuration"),
    ("actor", "state", "state"), ("actor", "state", "roster"), ("top", "--for", "10ms"), ("stacks",),
    ("why", "literal"), ("why", "openai-default"), ("what-if", "literal", "failure_threshold=1"), ("events", "export", "-"),
)  # fmt: skip


def test_no_secret_appears_anywhere(serve: Callable[..., Gateway], primary: Upstream, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"sk-{CANARY}-filed\n")
    file = tmp_path / "runestone.toml"
    file.write_text(FILE.format(url=primary.url, canary=CANARY, folder=tmp_path))
    node = serve(
        "--config",
        str(file),
        NAMED_KEY=f"sk-{CANARY}-named",
        RUNESTONE_API_KEYS=f"{CANARY}-listed",
        OPENAI_API_KEY=f"sk-{CANARY}-env",
    )
    mine = {"authorization": f"Bearer {CANARY}-inbound"}
    ctl = [sys.executable, "-m", "runestone", "ctl", "--socket", str(node.socket), "--json"]
    added = subprocess.run(
        [*ctl, "provider", "add", "late", "--kind", "openai", "--base-url", primary.url, "--key-stdin"],
        input=f"sk-{CANARY}-late\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    refused = subprocess.run(
        [*ctl, "provider", "add", "odd", "--kind", "openai", "--base-url", f"https://u:{CANARY}@h/v1", "--key-stdin"],
        input=f"sk {CANARY}\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    seen = [added.stdout, refused.stdout, refused.stderr]
    assert refused.returncode == 78
    for model in ("literal/x", "named/x", "filed/x", "late/x", "nobody"):
        answer = node.post({**HELLO, "model": model, "stream": False}, mine)
        seen += [answer.text, repr(answer.headers)]
    pasted = {"x-request-id": f"sk-{CANARY}-id", "traceparent": f"Bearer {CANARY}-trace", **mine}
    node.post({**HELLO, "model": f"sk-{CANARY}-model"}, pasted)  # into the wrong places, by a client
    primary.fault("status=401")
    for model in ("literal/x", "named/x", "filed/x", "late/x"):
        seen.append(node.post({**HELLO, "model": model}, mine).text)
    seen.append(node.post(HELLO, {"authorization": f"Bearer {CANARY}-wrong"}).text)
    file.write_text(
        file.read_text()
        .replace('kind = "openai"', 'kind = "opena"', 1)
        .replace("[keys.mine]", f'[keys.other]\nsha256 = "{CANARY}"\n[keys.mine]')
    )
    broken = node.ctl_raw("config", "reload")
    assert broken.returncode == 78
    seen += [broken.stdout, broken.stderr]
    for command in READS:
        done = node.ctl_raw(*command), node.ctl_raw("--json", *command)
        seen += [text for one in done for text in (one.stdout, one.stderr)]
    for path in ("", "/detailed", "/providers", "/metrics"):
        seen.append(node.health(path).text)
    offline = subprocess.run(
        [sys.executable, "-m", "runestone", "config", "show", "--effective", "--origin", "--config", str(file)],
        env={"PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parents[2]), "OPENAI_API_KEY": f"sk-{CANARY}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seen += [offline.stdout, offline.stderr]
    node.stop()
    written = node.log.read_text(), (tmp_path / "events.jsonl").read_text()
    for text in written:
        assert '"asked":"sk-***"' in text
        assert '"request_id":"sk-***"' in text
    assert '"traceparent":"Bearer ***"' in written[1]
    seen += written

    assert [text for text in seen if CANARY in text] == []
    arrived = {request["headers"].get("x-secret") for request in primary.requests()}
    assert f"{CANARY}-header" in json.dumps(sorted(map(str, arrived)))  # it did go where it belongs
