"""The dashboard: has it the shape that Grafana imports, and does every query name real metrics?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from click.testing import CliRunner
from outrider.daemon.cli.grafana import grafana
from outrider.daemon.metrics.catalogue import CATALOGUE, HISTOGRAM
from outrider.daemon.metrics.dashboard import COLUMNS, dashboard

pytestmark = pytest.mark.unit

NAME = re.compile(r"outrider_\w+")
SELECTED = re.compile(r"(outrider_\w+)\{([^}]*)\}")
BY = re.compile(r"sum by \(([^)]*)\) \((?:rate|increase)?\(?(outrider_\w+)")
OF_PROMETHEUS = {"job", "instance"}  # labels that Prometheus adds


def charts() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(json.dumps(dashboard()))["panels"]
    return [panel for panel in panels if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for chart in charts() for target in chart["targets"]]


def labels_of(sample_name: str) -> set[str]:
    """The labels of the metric that this sample belongs to."""
    base = re.sub(r"_(bucket|count|sum)$", "", sample_name)
    if base in CATALOGUE and CATALOGUE[base].kind == HISTOGRAM:
        return {*CATALOGUE[base].labels, "le"}
    return set(CATALOGUE[sample_name].labels)


def test_every_query_names_metrics_and_labels_that_exist() -> None:
    assert len(expressions()) > 25
    for expression in expressions():
        assert NAME.findall(expression)
        for name in NAME.findall(expression):
            assert labels_of(name) is not None
        for name, selector in SELECTED.findall(expression):
            assert set(re.findall(r"(\w+)=~?", selector)) <= labels_of(name), expression
        for labels, name in BY.findall(expression):
            assert set(labels.split(", ")) <= labels_of(name) | OF_PROMETHEUS, expression


def test_legends_name_labels_that_their_query_keeps() -> None:
    for chart in charts():
        for target in chart["targets"]:
            kept = {label for by, _ in BY.findall(target["expr"]) for label in by.split(", ")}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept


def test_counters_are_queried_by_what_they_gain() -> None:
    for expression in expressions():
        counted = re.findall(r"(\w*)\((outrider_\w+(?:_total|_bucket))\b", expression)
        named = re.findall(r"outrider_\w+(?:_total|_bucket)\b", expression)
        assert len(counted) == len(named), expression
        assert {function for function, _ in counted} <= {"rate", "increase"}


def test_parentheses_are_balanced() -> None:
    for expression in expressions():
        for pair in ("()", "{}", "[]"):
            assert expression.count(pair[0]) == expression.count(pair[1]), expression


def test_it_has_the_shape_that_grafana_imports() -> None:
    shown: dict[str, Any] = json.loads(json.dumps(dashboard()))
    assert isinstance(shown["schemaVersion"], int)
    assert {"title", "uid", "time", "templating", "panels"} <= shown.keys()
    variables = {variable["name"]: variable for variable in shown["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    ids = [panel["id"] for panel in shown["panels"]]
    assert len(ids) == len(set(ids))
    for chart in charts():
        assert chart["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert chart["fieldConfig"].keys() == {"defaults", "overrides"}
        assert len({target["refId"] for target in chart["targets"]}) == len(chart["targets"]) > 0


def test_no_panel_lies_on_another() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(json.dumps(dashboard()))["panels"]:
        own = cells_of(panel["gridPos"])
        assert not own & cells, panel["title"]
        cells |= own
    assert max(x for x, _ in cells) < COLUMNS


def cells_of(place: Mapping[str, int]) -> set[tuple[int, int]]:
    columns = range(place["x"], place["x"] + place["w"])
    return {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(grafana)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(json.dumps(dashboard()))
