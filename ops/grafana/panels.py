"""What the dashboard shows: rows of panels, each with its queries."""

from __future__ import annotations

from typing import Any, Final

NODE: Final = 'job="runestone", instance=~"$instance"'
PROVIDER: Final = f'{NODE}, provider=~"$provider"'
MODEL: Final = f'{PROVIDER}, model=~"$model"'

Panel = dict[str, Any]
Query = tuple[str, str]  # the expression, and what its series are called


def _rate(metric: str, by: str, where: str = NODE) -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def _quantile(q: float, metric: str, by: str, where: str = NODE) -> str:
    le = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, sum by ({le}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


def _percentiles(metric: str, where: str = NODE) -> list[Query]:
    return [(_quantile(q, metric, "", where), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)]


def _panel(kind: str, title: str, text: str, queries: list[Query], *, unit: str, width: int, height: int = 8) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "expr": expr,
                "legendFormat": legend,
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
            }
            for number, (expr, legend) in enumerate(queries)
        ],
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "gridPos": {"w": width, "h": height},
    }


def _lines(title: str, text: str, *queries: Query, unit: str = "short", width: int = 8, stacked: bool = False) -> Panel:
    panel = _panel("timeseries", title, text, list(queries), unit=unit, width=width)
    panel["fieldConfig"]["defaults"]["custom"] = {
        "fillOpacity": 30 if stacked else 0,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none"},
    }
    panel["options"] = {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list"}}
    return panel


def _stat(
    title: str, text: str, query: str, *, unit: str = "short", steps: tuple[tuple[float, str], ...] = ()
) -> Panel:
    panel = _panel("stat", title, text, [(query, "")], unit=unit, width=4, height=4)
    panel["fieldConfig"]["defaults"]["thresholds"] = {
        "mode": "absolute",
        "steps": [
            {"color": "green", "value": None},
            *({"color": color, "value": value} for value, color in steps),
        ],
    }
    panel["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "colorMode": "value"}
    return panel


def _heatmap(title: str, text: str, metric: str) -> Panel:
    panel = _panel("heatmap", title, text, [(_rate(f"{metric}_bucket", "le"), "{{le}}")], unit="short", width=8)
    panel["targets"][0]["format"] = "heatmap"
    panel["options"] = {"calculate": False, "yAxis": {"unit": "s"}, "color": {"mode": "scheme", "scheme": "Oranges"}}
    return panel


def _states(title: str, text: str, metric: str, states: tuple[str, str, str]) -> Panel:
    """One series a provider, of a metric that has one for each of three states: 0 for the normal one, 1 and 2."""
    one, two = (f'{metric}{{{PROVIDER}, state="{state}"}}' for state in states[1:])
    panel = _panel(
        "state-timeline",
        title,
        text,
        [(f"2 * {two} + ignoring (state) {one}", "{{provider}} {{instance}}")],
        unit="short",
        width=12,
    )
    colors = zip(states, ("green", "yellow", "red"), strict=True)
    panel["fieldConfig"]["defaults"]["mappings"] = [
        {"type": "value", "options": {str(value): {"text": state.replace("_", "-"), "color": color}}}
        for value, (state, color) in enumerate(colors)
    ]
    panel["options"] = {"showValue": "never", "rowHeight": 0.8, "mergeValues": True}
    return panel


_LOSSES: Final = (
    ("runestone_log_dropped_total", "log lines"),
    ("runestone_events_dropped_total", "events of the file"),
    ("runestone_event_handler_failures_total", "events that a handler failed on"),
    ("runestone_actor_mailbox_dropped_total", "messages"),
    ("runestone_ledger_dropped_total", "calls of the ledger"),
    ("runestone_traces_dropped_total", "requests of the traces"),
    ("runestone_metric_series_dropped_total", "series"),
)
_FAILED: Final = "job:runestone_requests_failed:ratio_rate5m"

ROWS: Final[tuple[tuple[str, list[Panel]], ...]] = (
    (
        "Service",
        [
            _stat("Nodes", "That answer Prometheus.", 'sum(up{job="runestone", instance=~"$instance"})'),
            _stat(
                "Requests",
                "From clients.",
                f"sum(rate(runestone_requests_total{{{NODE}}}[$__rate_interval]))",
                unit="reqps",
            ),
            _stat(
                "Failed",
                "Of all nodes, of the last 5 minutes: without what clients asked wrongly. The objective is 0.1 %.",
                f'max({_FAILED}{{job="runestone"}}) or vector(0)',
                unit="percentunit",
                steps=((0.001, "yellow"), (0.0144, "red")),
            ),
            _stat("In flight", "Requests that are being served.", f"sum(runestone_request_in_flight{{{NODE}}})"),
            _stat(
                "Providers out",
                "Down, or with an open breaker.",
                f"count(runestone_provider_up{{{PROVIDER}}} == 0) or vector(0)",
                steps=((1, "red"),),
            ),
            _stat(
                "Cost",
                "Per hour, at the pace of the last hour.",
                f"sum(rate(runestone_cost_usd_total{{{MODEL}}}[1h])) * 3600 or vector(0)",
                unit="currencyUSD",
            ),
            _lines(
                "Requests by outcome",
                "`ok`, `client_gone`, or the code of the error.",
                (_rate("runestone_requests_total", "outcome"), "{{outcome}}"),
                unit="reqps",
                stacked=True,
            ),
            _lines(
                "Request duration",
                "A stream's includes all of its content.",
                *_percentiles("runestone_request_duration_seconds"),
                unit="s",
            ),
            _heatmap("Request duration, spread", "How many took how long.", "runestone_request_duration_seconds"),
            _lines(
                "Failed requests",
                "The two windows of the page; it comes at 1.44 % in both.",
                (f'{_FAILED}{{job="runestone"}}', "5 minutes"),
                ('job:runestone_requests_failed:ratio_rate1h{job="runestone"}', "1 hour"),
                unit="percentunit",
            ),
            _lines(
                "Overhead",
                "What the node adds to the time of the upstream calls.",
                *_percentiles("runestone_overhead_seconds"),
                unit="s",
            ),
            _lines(
                "Turned away",
                "Refused for the node's own load, and given up since nobody was left to ask.",
                (_rate("runestone_requests_shed_total", "instance"), "load, {{instance}}"),
                (_rate("runestone_failover_exhausted_total", "group"), "nobody left, {{group}}"),
                unit="reqps",
            ),
        ],
    ),
    (
        "Providers",
        [
            _states(
                "Circuit breakers",
                "Closed serves, open is not asked, half-open lets a few probes through.",
                "runestone_circuit_breaker_state",
                ("closed", "half_open", "open"),
            ),
            _states(
                "Put out of service",
                "By an operator: draining ends what runs, maintenance is not probed either.",
                "runestone_provider_admin_state",
                ("ready", "draining", "maintenance"),
            ),
            _lines(
                "Health score",
                "Groups pass a provider over below their threshold (0.7 by default).",
                (f"runestone_provider_health_score{{{PROVIDER}}}", "{{provider}} {{instance}}"),
                unit="percentunit",
                width=12,
            ),
            _lines(
                "Failed calls",
                "By the kind of the failure.",
                (_rate("runestone_provider_failures_total", "provider, kind", PROVIDER), "{{provider}} {{kind}}"),
                unit="reqps",
                width=12,
                stacked=True,
            ),
            _lines(
                "Calls by outcome",
                "`ok`, `cancelled`, or the kind of the failure.",
                (_rate("runestone_provider_attempts_total", "provider, outcome", MODEL), "{{provider}} {{outcome}}"),
                unit="reqps",
                stacked=True,
            ),
            _lines(
                "Time to the first content, p95",
                "Of streams, from the call on.",
                (
                    _quantile(0.95, "runestone_provider_time_to_first_chunk_seconds", "provider", PROVIDER),
                    "{{provider}}",
                ),
                unit="s",
            ),
            _lines(
                "Time between chunks, p95",
                "Of streams that came whole: the mean of each, behind its first content.",
                (
                    _quantile(0.95, "runestone_provider_time_per_output_chunk_seconds", "provider", PROVIDER),
                    "{{provider}}",
                ),
                unit="s",
            ),
            _lines(
                "Call duration, p95",
                "Of whole calls.",
                (_quantile(0.95, "runestone_provider_duration_seconds", "provider", PROVIDER), "{{provider}}"),
                unit="s",
            ),
            _lines(
                "Failovers",
                "Another provider was called for the same request.",
                (_rate("runestone_failovers_total", "from, to, reason"), "{{from}} to {{to}}: {{reason}}"),
                unit="reqps",
            ),
            _lines(
                "Retries",
                "The same provider was called again for the same request.",
                (_rate("runestone_retries_total", "provider, reason", PROVIDER), "{{provider}}: {{reason}}"),
                unit="reqps",
            ),
            _lines(
                "Waits before retries, p95",
                "By what had failed.",
                (
                    _quantile(0.95, "runestone_retry_delay_seconds", "provider, reason", PROVIDER),
                    "{{provider}}: {{reason}}",
                ),
                unit="s",
            ),
            _lines(
                "Probes",
                "Of providers that nobody calls; and requests sent once more, since a kept connection had been closed.",
                (_rate("runestone_probes_total", "provider, outcome", PROVIDER), "{{provider}} {{outcome}}"),
                (
                    _rate("runestone_provider_stale_connections_total", "provider", PROVIDER),
                    "{{provider}} sent once more",
                ),
                unit="reqps",
            ),
            _lines(
                "Throttled and quarantined",
                "429 answers; refused keys, spent quotas, models that are not served.",
                (_rate("runestone_provider_throttled_total", "provider", PROVIDER), "{{provider}} 429"),
                (
                    _rate("runestone_provider_quarantined_total", "provider, reason", PROVIDER),
                    "{{provider}} {{reason}}",
                ),
                unit="reqps",
            ),
            _lines(
                "Calls in flight",
                "And the limit, of providers that have one.",
                (f"sum by (provider) (runestone_provider_in_flight{{{PROVIDER}}})", "{{provider}}"),
                (f"sum by (provider) (runestone_provider_concurrency_limit{{{PROVIDER}}})", "{{provider}} limit"),
            ),
            _lines(
                "Waiting for a place",
                "Requests in the line of a provider that has a limit.",
                (f"sum by (provider) (runestone_provider_waiting{{{PROVIDER}}})", "{{provider}}"),
            ),
            _lines(
                "Breaker transitions",
                "Into each state, within five minutes.",
                (
                    f"sum by (provider, to) (increase(runestone_circuit_breaker_transitions_total{{{PROVIDER}}}[5m]))",
                    "{{provider}} {{to}}",
                ),
            ),
        ],
    ),
    (
        "Tokens and cost",
        [
            _lines(
                "Tokens",
                "As providers report them.",
                (_rate("runestone_tokens_total", "type", MODEL), "{{type}}"),
                unit="short",
            ),
            _lines(
                "Tokens by provider and model",
                "In and out.",
                (
                    _rate("runestone_tokens_total", "provider, model", f'{MODEL}, type=~"input|output"'),
                    "{{provider}} {{model}}",
                ),
            ),
            _lines(
                "Ledger",
                "Calls that wait to be written; within five minutes those written, and tries that failed.",
                (f"runestone_ledger_waiting{{{NODE}}}", "{{instance}} waiting"),
                (f"increase(runestone_ledger_calls_total{{{NODE}}}[5m])", "{{instance}} written"),
                (f"increase(runestone_ledger_failures_total{{{NODE}}}[5m])", "{{instance}} failures"),
            ),
            _lines(
                "Calls of unknown cost",
                "No price is known, or the provider has told no usage.",
                (_rate("runestone_cost_unknown_total", "provider, model", MODEL), "{{provider}} {{model}}"),
                unit="reqps",
            ),
            _lines(
                "Cost per hour",
                "By the price list; a call without a price is not in it.",
                (
                    f"sum by (provider, model) (rate(runestone_cost_usd_total{{{MODEL}}}[1h])) * 3600",
                    "{{provider}} {{model}}",
                ),
                unit="currencyUSD",
                stacked=True,
            ),
        ],
    ),
    (
        "Nodes",
        [
            _lines(
                "Event loop lag",
                "How late it was, at most within the last minute, and 99 of 100 times.",
                (f"runestone_event_loop_lag_worst_seconds{{{NODE}}}", "{{instance}} worst"),
                (_quantile(0.99, "runestone_event_loop_lag_seconds", "instance"), "{{instance}} p99"),
                unit="s",
            ),
            _lines(
                "Restarts",
                "Of processes of the tree, within five minutes.",
                (f"sum by (actor) (increase(runestone_actor_restarts_total{{{NODE}}}[5m]))", "{{actor}}"),
                (
                    f"sum by (supervisor) (increase(runestone_supervisor_intensity_exceeded_total{{{NODE}}}[5m]))",
                    "{{supervisor}} gave up",
                ),
            ),
            _lines(
                "CPU", "Cores in use.", (f"rate(process_cpu_seconds_total{{{NODE}}}[$__rate_interval])", "{{instance}}")
            ),
            _lines("Memory", "Resident.", (f"process_resident_memory_bytes{{{NODE}}}", "{{instance}}"), unit="bytes"),
            _lines("Descriptors", "Open files and sockets.", (f"process_open_fds{{{NODE}}}", "{{instance}}")),
            _lines(
                "Mailboxes",
                "Messages that wait, by actor; empty while none does.",
                (f"max by (actor) (runestone_actor_mailbox_depth{{{NODE}}}) > 0", "{{actor}}"),
            ),
            _lines(
                "Messages",
                "Taken from mailboxes a second, of the ten actors that take the most.",
                (f"topk(10, {_rate('runestone_actor_messages_total', 'actor')})", "{{actor}}"),
            ),
            _lines(
                "Time per message",
                "The 99th percentile of what an actor took for one, of the ten that were the slowest.",
                (f"topk(10, {_quantile(0.99, 'runestone_actor_handle_seconds', 'actor')} > 0)", "{{actor}}"),
                unit="s",
            ),
            _lines(
                "Settings",
                "0: the last reload was refused. And acts by the admin socket within five minutes, where there were any.",
                (f"runestone_config_last_reload_success{{{NODE}}}", "{{instance}} reload"),
                (
                    f"sum by (action, outcome) (increase(runestone_admin_actions_total{{{NODE}}}[5m])) > 0",
                    "{{action}} {{outcome}}",
                ),
            ),
            _lines(
                "Lost",
                "Within five minutes: what found no room, and took no request with it. All of it should be 0.",
                *(
                    (f"sum by (instance) (increase({metric}{{{NODE}}}[5m]))", f"{{{{instance}}}} {what}")
                    for metric, what in _LOSSES
                ),
            ),
            _lines(
                "Versions",
                "Nodes by the version that they run.",
                (
                    f"count by (version, commit, python) (runestone_build_info{{{NODE}}})",
                    "{{version}} ({{commit}}) on {{python}}",
                ),
            ),
        ],
    ),
)
