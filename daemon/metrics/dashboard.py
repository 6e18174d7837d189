"""How does Grafana show the metrics? A dashboard as it imports it (schema version 39).

All panels read one Prometheus data source, and those about models the models, that are chosen at
the top of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .panels import Panel, rows

Json = dict[str, object]

SCHEMA_VERSION = 39  # Grafana 10.4 and later; newer ones migrate it when it is imported
COLUMNS = 24  # of Grafana's grid
HEIGHT = 8  # of a panel, in the grid's units
SOURCE: Mapping[str, str] = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> Json:
    """The dashboard, to be written as JSON."""
    return {
        "title": "Outrider",
        "uid": "outrider",
        "description": "What an Outrider daemon does, by its /metrics",
        "tags": ["outrider", "llm"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source_variable(), _model_variable()]},
        "annotations": {"list": []},
        "panels": _placed(rows()),
    }


def _source_variable() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "refresh": 1,
        "regex": "",
        "multi": False,
        "includeAll": False,
        "options": [],
    }


def _model_variable() -> Json:
    query = "label_values(outrider_loads_total, model)"
    return {
        "name": "model",
        "label": "Model",
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "models"},
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "allValue": ".*",
        "hide": 0,
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "options": [],
    }


def _placed(panels: Mapping[str, Sequence[Panel]]) -> list[Json]:
    """The panels in Grafana's grid: under each heading a row of charts of equal width."""
    placed: list[Json] = []
    y = 0
    for title, row in panels.items():
        grid: Json = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
        heading: Json = {"type": "row", "title": title, "gridPos": grid, "collapsed": False}
        placed.append({**heading, "id": len(placed) + 1, "panels": []})
        width = COLUMNS // len(row)
        for i, panel in enumerate(row):
            grid = {"h": HEIGHT, "w": width, "x": i * width, "y": y + 1}
            placed.append({**_chart(panel), "id": len(placed) + 1, "gridPos": grid})
        y += 1 + HEIGHT
    return placed


def _chart(panel: Panel) -> Json:
    stacking = {"mode": "normal" if panel.is_stacked else "none", "group": "A"}
    custom: Json = {"fillOpacity": 20 if panel.is_stacked else 0, "stacking": stacking}
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for i, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }
