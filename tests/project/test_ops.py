"""What is given to operators holds: the rules do what their tests say, and every metric, label, command and link in them exists."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from runestone import cli
from runestone.console import ctl
from runestone.telemetry.families import Families
from tests.e2e.node import Gateway, eventually, gateway
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN

ROOT: Final = Path(__file__).parents[2]
OPS: Final = ROOT / "ops"
PROMETHEUS: Final = OPS / "prometheus"
DASHBOARD: Final = OPS / "grafana" / "dashboards" / "runestone-overview.json"
RUNBOOK: Final = (OPS / "runbook.md").read_text(encoding="utf-8")
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"
)

# Metrics that the rules and the dashboard ask for already, with their labels, and that the registry gets next. To be emptied then.
OF_PROMETHEUS: Final = {"up": set[str](), "ALERTS": {"alertname", "alertstate"}}
OF_A_TARGET: Final = {"job", "instance"}
WORDS: Final = frozenset({
    "absent", "and", "by", "count", "histogram_quantile", "ignoring", "increase", "label_values", "max", "offset", "on", "or",
    "rate", "sum", "topk", "unless", "vector",
})  # fmt: skip


def loaded(file: str) -> Any:
    return yaml.safe_load((PROMETHEUS / file).read_text(encoding="utf-8"))


def rules(file: str) -> list[dict[str, Any]]:
    return [rule for group in loaded(file)["groups"] for rule in group["rules"]]


ALERTS: Final = rules("alerts.yml")
RECORDED: Final = rules("recording.yml")


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text(encoding="utf-8")))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def blocks(language: str) -> list[str]:
    """The runbook's blocks of code."""
    return re.findall(rf"^```{language}\n(.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)


def queries() -> Iterator[tuple[str, str]]:
    """Every expression, with where it stands."""
    for rule in (*ALERTS, *RECORDED):
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in panels():
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((f"variable {v['name']}", v["query"]["query"]) for v in dashboard()["templating"]["list"][1:])
    yield from (("annotation", one["expr"]) for one in dashboard()["annotations"]["list"])
    yield from (("runbook", block) for block in blocks("promql"))


# -- Prometheus ------------------------------------------------------------------------------------------------------------


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "recording.yml", "alerts.yml"),
        ("test", "rules", "tests.yml"),
        ("test", "rules", "tests_of_days.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    told: dict[str, set[bool]] = {}
    for file in ("tests.yml", "tests_of_days.yml"):
        for case in loaded(file)["tests"]:
            for look in case["promql_expr_test"]:
                if name := re.match(r'ALERTS\{alertname="(\w+)"', look["expr"]):
                    told.setdefault(name[1], set()).add(bool(look["exp_samples"]))

    assert told == {alert["alert"]: {True, False} for alert in ALERTS}


def test_an_alert_says_how_urgent_it_is_what_it_is_and_where_its_section_of_the_runbook_is() -> None:
    for alert in ALERTS:
        assert alert["labels"].keys() == {"severity"}
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert alert["annotations"]["runbook_url"] == f"ops/runbook.md#{alert['alert'].lower()}"


def test_the_example_scrapes_the_job_and_the_path_that_there_are() -> None:
    config = loaded("prometheus.yml")

    (job,) = config["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("runestone", "/metrics")
    assert job["static_configs"][0]["targets"] == ["localhost:4004"]
    assert set(re.findall(r'job="(\w+)"', " ".join(expr for _, expr in queries()))) == {"runestone"}


# -- the runbook -----------------------------------------------------------------------------------------------------------


def anchors() -> set[str]:
    titles = re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    sections = set(re.findall(r"^## (Runestone\w+)$", RUNBOOK, re.MULTILINE))

    assert sections == {alert["alert"] for alert in ALERTS}


def test_every_link_to_the_runbook_and_within_it_leads_somewhere() -> None:
    wanted = [alert["annotations"]["runbook_url"].partition("#")[2] for alert in ALERTS]
    wanted += re.findall(r"\]\(#([^)]+)\)", RUNBOOK)

    assert [anchor for anchor in wanted if anchor not in anchors()] == []


def commands(text: str) -> list[list[str]]:
    return [line.split() for line in re.findall(r"runestone (ctl [^`\n]+)", text)]


def test_every_command_of_the_runbook_is_one_that_ctl_knows(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    ctl.add_parser(parser.add_subparsers())
    unknown = []
    for words in commands(RUNBOOK):
        if {"--help", "--socket"} & set(words):
            continue
        try:
            parser.parse_args(words)
        except SystemExit:
            unknown.append((words, capsys.readouterr().err))

    assert unknown == []


def test_who_looks_changes_nothing() -> None:
    parser = argparse.ArgumentParser()
    ctl.add_parser(parser.add_subparsers())
    looks = re.findall(r"^\*\*Look\.\*\*(.*?)^(?:\*\*Mend|#)", RUNBOOK, re.MULTILINE | re.DOTALL)
    used = {parser.parse_args(words).command for look in looks for words in commands(look)}

    assert len(looks) > 10
    acting = {command.path for command in used if command.method != "GET"}
    assert acting <= {"health check", "failover explain"}  # which ask


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A node with simulated providers, to which all that has a metric of its own has happened."""
    with gateway(tmp_path_factory.mktemp("demo"), {"RETRY_BASE_DELAY_MS": "1"}, "--demo") as node:
        asked = {**HELLO, "model": "openai-default/gpt-4o-mini"}
        node.ctl("provider", "set", "openai-default", "--max-concurrency", "8")
        assert node.post(asked).status_code == 200
        assert node.post({**asked, "stream": False}).status_code == 200
        node.ctl("fault", "openai-default", "503")
        assert node.post(HELLO).status_code == 200  # retries, and a failover
        node.ctl("fault", "openai-default", "429")
        assert node.post(asked).status_code == 429
        node.ctl("crash", "failover")
        node.ctl("fault", "openai-default", "none")
        node.ctl("provider", "restart", "openai-default")
        yield node


def test_every_command_of_the_runbook_does_its_work_on_a_node(
    demo: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [words for block in blocks("sh") for words in commands(block)]
    assert len(listed) > 40

    failed = []
    for _, *words in listed:
        code = cli.main(["ctl", "--socket", str(demo.socket), *words])
        output = capsys.readouterr()
        if code or not output.out:
            failed.append((words, code, output.err))

    assert failed == []


def test_every_path_of_the_runbook_is_served(demo: Gateway) -> None:
    paths = re.findall(r"^curl -s http://localhost:4004(\S+)", "".join(blocks("sh")), re.MULTILINE)

    assert paths
    answers = {path: httpx.get(demo.health_url + path, **PLAIN).status_code for path in paths}
    assert answers == dict.fromkeys(paths, 200)


# -- metrics and labels ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metrics(demo: Gateway) -> dict[str, set[str]]:
    """The labels of every metric that there is to ask for."""

    def read() -> dict[str, set[str]]:
        families = text_string_to_metric_families(demo.health("/metrics").text)
        return {sample.name: set(sample.labels) for family in families for sample in family.samples}

    eventually(lambda: "runestone_provider_concurrency_limit" in read(), "the gauges have been looked at")
    exposed = read()
    recorded = {rule["record"]: set[str]() for rule in RECORDED}
    return {name: labels | OF_A_TARGET for name, labels in {**exposed, **recorded, **OF_PROMETHEUS}.items()}


SELECTOR: Final = re.compile(r"(?<![\w\".])(runestone_\w+|process_\w+|job:[\w:]+|up\b|ALERTS)(?:\{([^}]*)\})?")
LISTED: Final = re.compile(r"(by|on|ignoring) \(([^)]*)\)")


def wrong(expr: str, metrics: Mapping[str, set[str]]) -> list[str]:
    """The names and labels in ``expr`` that do not exist."""
    found, there = [], set[str]()
    for name, matchers in SELECTOR.findall(expr):
        if name not in metrics:
            found.append(name)
            continue
        there |= metrics[name]
        found += [f"{name}.{label}" for label in re.findall(r"(\w+)\s*[=!]", matchers) if label not in metrics[name]]
    for _, labels in LISTED.findall(expr):
        found += [label for label in labels.replace(" ", "").split(",") if label not in there]
    rest = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\d\w*', "", LISTED.sub(r"\1", SELECTOR.sub("", expr)))
    rest = re.sub(r"(label_values\(.*), (\w+)\)", lambda m: m[1] if m[2] in there else m[0], rest)
    return found + [word for word in re.findall(r"[a-zA-Z_:][\w:]*", rest) if word not in WORDS]


def test_every_metric_and_label_that_is_asked_for_exists(metrics: dict[str, set[str]]) -> None:
    asked = list(queries())
    assert len(asked) > 70

    assert [(where, found) for where, expr in asked if (found := wrong(expr, metrics))] == []


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ('sum by (provider) (rate(runestone_tokens_total{type="input"}[5m]))', []),
        ("runestone_token_total", ["runestone_token_total"]),
        ('runestone_tokens_total{kind="input"}', ["runestone_tokens_total.kind"]),
        ("sum by (group) (runestone_tokens_total)", ["group"]),
        ("sum(runstone_tokens_total)", ["runstone_tokens_total"]),
        ("label_values(runestone_tokens_total, kind)", ["kind"]),
    ],
)
def test_a_name_or_label_that_is_not_there_is_found(expr: str, found: list[str]) -> None:
    assert wrong(expr, {"runestone_tokens_total": {"provider", "type"}}) == found


# What nobody has to look at to run a node; Prometheus has it for who is curious.
NOT_DRAWN: Final = {
    "process_virtual_memory_bytes",
    "process_max_fds",  # ctl doctor compares it with the open ones
    "process_start_time_seconds",
    "runestone_config_last_reload_success_timestamp_seconds",
}


def test_every_metric_that_there_is_is_asked_for_or_known_not_to_be() -> None:
    asked = " ".join(expr for _, expr in queries())
    there = {family.name for family in Families().families()}

    unasked = {name for name in there if not re.search(rf"\b{name}(?:_bucket)?\b", asked)}

    assert unasked == NOT_DRAWN


def test_every_metric_that_the_runbook_names_exists(metrics: dict[str, set[str]]) -> None:
    assert [name for name in re.findall(r"\b(?:runestone|process)_[a-z_]+", RUNBOOK) if name not in metrics] == []


def test_what_an_alert_says_and_a_legend_shows_are_labels_of_its_series(metrics: dict[str, set[str]]) -> None:
    def labels(expr: str) -> set[str]:
        lists = [set(found.replace(" ", "").split(",")) for word, found in LISTED.findall(expr) if word == "by"]
        return set.union(*lists) if lists else metrics[SELECTOR.findall(expr)[0][0]]

    for alert in ALERTS:
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
        assert used <= labels(alert["expr"]), alert["alert"]
    for panel in panels():
        for target in panel["targets"]:
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert used <= labels(target["expr"]), panel["title"]


# -- Grafana ---------------------------------------------------------------------------------------------------------------


def test_the_dashboard_is_what_its_program_makes() -> None:
    done = subprocess.run([sys.executable, "ops/grafana"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == DASHBOARD.read_text(encoding="utf-8")


def lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """What of ``ours`` is not in ``theirs``."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [found for key in ours for found in lost(ours[key], theirs.get(key), f"{path}/{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [found for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) for found in lost(a, b, f"{path}/{n}")]
    return [] if ours == theirs else [path]


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    """Read and written by Grafana's own types; what they do not know does not come back."""
    register_default_plugins()

    theirs = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(dashboard())))

    formats = ["/annotations/list/0/titleFormat", "/annotations/list/0/textFormat"]  # the Prometheus plugin's own
    assert lost(dashboard(), theirs) == formats


def test_the_dashboard_has_its_uid_and_lets_one_choose() -> None:
    made = dashboard()

    assert (made["uid"], made["editable"], made["tags"]) == ("runestone-overview", False, ["runestone"])
    assert made["schemaVersion"] >= 39
    assert [v["name"] for v in made["templating"]["list"]] == ["datasource", "instance", "provider", "model"]
    used = set(re.findall(r"\$(\w+)|\$\{(\w+)\}", json.dumps(made)))
    assert {a or b for a, b in used} == {"datasource", "instance", "provider", "model", "__rate_interval", "__all"}


def test_no_two_panels_of_the_dashboard_overlap() -> None:
    cells = [
        (x, y)
        for panel in dashboard()["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_grafana_is_told_where_prometheus_and_the_dashboards_are() -> None:
    folder = OPS / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "runestone.yml").read_text(encoding="utf-8"))
    boards = yaml.safe_load((folder / "dashboards" / "runestone.yml").read_text(encoding="utf-8"))

    interval = loaded("prometheus.yml")["global"]["scrape_interval"]
    assert [(one["type"], one["jsonData"]["timeInterval"]) for one in sources["datasources"]] == [
        ("prometheus", interval)
    ]
    assert [one["type"] for one in boards["providers"]] == ["file"]
    assert (sources["apiVersion"], boards["apiVersion"]) == (1, 1)


@needs_promtool
def test_prometheus_understands_every_query_of_the_dashboard_and_the_runbook(tmp_path: Path) -> None:
    made = [
        {"record": "asked", "expr": expr.replace("$__rate_interval", "5m")}
        for where, expr in queries()
        if not where.startswith("variable")
    ]
    for number, rule in enumerate(made):
        rule["record"] += f":{number}"
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": made}]}), encoding="utf-8")

    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
