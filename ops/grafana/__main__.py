"""Writes the dashboard on standard output: ``python ops/grafana >ops/grafana/dashboards/runestone-overview.json``."""

from __future__ import annotations

import json
from typing import Any, Final

from panels import ROWS

_WIDTH: Final = 24  # of Grafana's grid
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def _laid_out() -> list[dict[str, Any]]:
    """All panels, from left to right and top to bottom, each row under its title."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append(
            {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _at(0, y, _WIDTH, 1)}
        )
        x, y, tallest = 0, y + 1, 0
        for panel in row:
            width, height = panel["gridPos"]["w"], panel["gridPos"]["h"]
            if x + width > _WIDTH:
                x, y, tallest = 0, y + tallest, 0
            panels.append({**panel, "gridPos": _at(x, y, width, height)})
            x, tallest = x + width, max(tallest, height)
        y += tallest
    return [{"id": number, **panel} for number, panel in enumerate(panels, 1)]


def _at(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _variable(name: str, values: str) -> dict[str, Any]:
    """One or several values of a label, or all of them."""
    return {
        "type": "query",
        "name": name,
        "label": name.capitalize(),
        "datasource": _DATASOURCE,
        "query": {"query": values, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": "runestone-overview",
        "title": "Runestone",
        "description": "One page for all nodes. Percentiles and shares have no value while nothing happens. "
        "Made by ops/grafana: change it there.",
        "tags": ["runestone"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"},
                _variable("instance", 'label_values(up{job="runestone"}, instance)'),
                _variable("provider", 'label_values(runestone_provider_up{instance=~"$instance"}, provider)'),
                _variable("model", 'label_values(runestone_provider_attempts_total{provider=~"$provider"}, model)'),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "enable": True,
                    "iconColor": "red",
                    "datasource": _DATASOURCE,
                    "expr": 'ALERTS{alertname=~"Runestone.*", alertstate="firing"}',
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{provider}} {{instance}}",
                }
            ]
        },
        "panels": _laid_out(),
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=2))
