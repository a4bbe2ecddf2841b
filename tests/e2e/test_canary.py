"""A key planted in every place where a secret can stand appears nowhere: no answer, no log, no listing, no error, no export."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from runestone.config.run_directory import stacks_socket
from runestone.console.table import COMMANDS
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
    ("requests", "-n", "1000"), ("requests", "--failed"), ("doctor",), ("metrics", "all", "--prom"), ("logs", "tail", "-n", "1000"),
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
    node.post({**HELLO, "model": f"openai-default/sk-{CANARY}-passed"}, pasted)  # a name that is passed on
    primary.fault("status=401")
    node.post({**HELLO, "model": "openai-default/gpt-4o"}, pasted)
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
    written = node.told(), (tmp_path / "events.jsonl").read_text()
    for text in written:
        assert '"asked":"sk-***"' in text
        assert '"request_id":"sk-***"' in text
    assert '"traceparent":"Bearer ***"' in written[1]
    seen += written

    found = [line for text in seen for line in text.splitlines() if CANARY in line]
    assert found == [], "\n".join(found)
    arrived = {request["headers"].get("x-secret") for request in primary.requests()}
    assert f"{CANARY}-header" in json.dumps(sorted(map(str, arrived)))  # it did go where it belongs


def live(node: Gateway) -> dict[str | None, list[str]]:
    """What an argument may be that takes such names; one that takes none is a number or a word that does no harm."""

    def paths(actor: dict[str, Any]) -> Iterator[str]:
        yield actor["path"]
        for child in actor["children"]:
            yield from paths(child)

    return {
        "providers": list(node.ctl("status")["providers"]),
        "groups": [group["name"] for group in node.ctl("group", "list")["groups"]],
        "actors": list(paths(node.ctl("tree")["tree"])),
        "requests": [event["request_id"] for event in node.ctl("events", "--name", "request.finished")["events"]],
        None: ["all"],
    }


def answers(node: Gateway, names: dict[str | None, list[str]]) -> Iterator[tuple[str, str]]:
    """The text of every read that there is, of everything that it can be about."""
    for command in (one for one in COMMANDS if one.method == "GET"):
        socket = stacks_socket(node.socket) if command.beside else node.socket
        query = {"max": "30", "seconds": "0.2"} if command.path == "trace" else {}
        if command.route == "/v1/actors":
            query = {"seconds": "0.01", "n": "1000"}
        elif command.route == "/v1/events":
            query = {"limit": "1000"}
        about = next((a.complete for a in command.arguments if f"{{{a.key}}}" in command.route), None)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://n", timeout=30) as client:
            for name in names[about] if "{" in command.route else [""]:
                answer = client.get(
                    command.route.format(name=quote(name, safe=""), id=quote(name, safe="")), params=query
                )
                yield f"{command.path} {name}", answer.text


def test_no_secret_is_in_any_answer_event_act_or_trace(
    serve: Callable[..., Gateway], primary: Upstream, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"sk-{CANARY}-filed\n")
    file = tmp_path / "runestone.toml"
    file.write_text(FILE.format(url=primary.url, canary=CANARY, folder=tmp_path))
    node = serve("--config", str(file), NAMED_KEY=f"sk-{CANARY}-named", OPENAI_API_KEY=f"sk-{CANARY}-env")
    mine = {"authorization": f"Bearer {CANARY}-inbound"}
    admin = httpx.Client(
        transport=httpx.HTTPTransport(uds=str(node.socket)), base_url="http://n", timeout=60,
        headers={"x-runestone-actor": f"Bearer {CANARY}"},
    )  # fmt: skip
    secrets = {"api_key": f"sk-{CANARY}-late", "headers": {"x-secret": f"{CANARY}-late"}}
    late = {"kind": "openai", "config": {**secrets, "base_url": primary.url}}
    with admin:
        acts = [
            ("/v1/providers", {"name": "late", **late}),
            (
                "/v1/providers/late",
                {"config": {"api_key": f"sk-{CANARY}-later", "headers": {"x-s": f"{CANARY}-later"}}},
            ),
            ("/v1/providers?dry_run=true", {"name": "dry", **late}),
            ("/v1/providers", {"name": "bad", **late, "kind": f"sk-{CANARY}-kind"}),
            ("/v1/providers", {"name": "bad", "kind": "openai", "config": {**secrets, f"sk-{CANARY}-option": 1}}),
            ("/v1/providers/literal", {"config": {"timeout": "1s"}}),
            ("/v1/providers/late/restart", {"hard": True}),
            ("/v1/breakers/late/trip", {}),
            ("/v1/breakers/late/reset", {}),
            ("/v1/config/reload", {}),
            (f"/v1/actors/sk-{CANARY}-actor/restart", {}),
            ("/v1/costs/estimate", {"request": {"model": "gpt-4o", "messages": [{"content": f"{CANARY} prompt"}]}}),
            (
                "/v1/chat",
                {"request": {"model": "late/x", "messages": [{"role": "user", "content": f"{CANARY} prompt"}]}},
            ),
        ]
        why = f"reason=the+key+is+sk-{CANARY}-reason"
        seen = [(path, admin.post(f"{path}{'&' if '?' in path else '?'}{why}", json=body).text) for path, body in acts]
    seen.pop()  # the answer of a chat is the provider's, for who has asked
    for model in ("literal/x", "named/x", "filed/x", "late/x"):
        asked = {**HELLO, "model": model, "messages": [{"role": "user", "content": f"{CANARY} prompt"}]}
        assert node.post(asked, mine).status_code == 200
    primary.fault("status=401")
    node.post({**HELLO, "model": "late/x"}, mine)

    names = live(node)
    told = list(answers(node, names))
    acted = node.ctl("events", "--name", "admin.acted", "--last", "1000")["events"]

    assert len(told) > 100
    assert len(acted) == len(acts) - 2  # a chat is no act, nor is an estimate
    assert {"ok", "dry_run", "unsupported_provider", "invalid", "not_found"} <= {act["outcome"] for act in acted}
    assert any("providers.late.api_key" in act["after"] for act in acted)
    assert any("***" in act["reason"] for act in acted)
    node.stop()
    seen += [*told, ("the log", node.told()), ("the events", (tmp_path / "events.jsonl").read_text())]
    assert [where for where, text in seen if CANARY in text] == []


@pytest.mark.parametrize(
    "words",
    [
        ("ctl", "provider", "add", "x", "--kind", "openai", "--api-key", "{key}"),
        ("ctl", "provider", "set", "x", "--key-env", "{key}"),
        ("ctl", "--json", "provider", "set", "x", "--key-file", "{key}"),
        ("check", "--json", "--key-env", "{key}"),
        ("config", "explain", "{key}"),
    ],
    ids=" ".join,
)
def test_a_key_that_is_typed_where_none_belongs_is_not_told(words: tuple[str, ...], tmp_path: Path) -> None:
    given = [word.format(key=f"sk-{CANARY}-typed") for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "runestone", *given],
        env={"PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parents[2]), "XDG_RUNTIME_DIR": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert "sk-***" in done.stderr
    assert CANARY not in done.stdout + done.stderr


class Parrot(BaseHTTPRequestHandler):
    """An upstream that says which key and which header it was sent, as some do."""

    def do_POST(self) -> None:
        """Refuse: as the caller's error, or for the key."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key, own = self.headers["authorization"].removeprefix("Bearer "), self.headers["x-own"]
        error = {"message": f"who are you, {key}, {own}?", "type": f"bad {key}", "code": own, "param": key}
        if asked.get("stream"):
            body = f"data: {json.dumps({'error': error})}\n\n".encode()
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
        else:
            body = json.dumps({"error": error}).encode()
            self.send_response(int(asked["model"]))
        self.send_header("x-ratelimit-of", key)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def parrot() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Parrot) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join(10)


def test_a_key_that_an_upstream_repeats_in_its_error_reaches_nobody(
    serve: Callable[..., Gateway], tmp_path: Path
) -> None:
    file = tmp_path / "runestone.toml"
    with parrot() as url:
        file.write_text(
            f'[providers.parrot]\nkind = "compatible"\nbase_url = "{url}"\napi_key = "{CANARY}-of-no-vendor"\n'
            f'headers = {{ x-own = "{CANARY}-header" }}\nretry_attempts = 1\n'
        )
        node = serve("--config", str(file))
        asked = [{"model": f"parrot/{status}", "stream": False} for status in (400, 500, 401)]
        answers = [node.post({**HELLO, **one}) for one in ({"model": "parrot/x", "stream": True}, *asked)]

    assert [answer.status_code for answer in answers] == [502, 400, 500, 502]
    assert ["who are you, ***, ***?" in answer.text for answer in answers] == [True] * 4
    seen = [f"{answer.text} {answer.headers}" for answer in answers]
    seen += [node.health(path).text for path in ("/detailed", "/providers", "/providers/parrot", "/metrics")]
    seen += [node.ctl_raw(*words).stdout for words in (("status",), ("why", "parrot"), ("events", "export", "-"))]
    node.stop()
    seen.append(node.told())
    assert "is quarantined" in seen[-1]
    assert [line for text in seen for line in text.splitlines() if CANARY in line] == []
