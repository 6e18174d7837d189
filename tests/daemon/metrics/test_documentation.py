"""Does the table of metrics in daemon/README.md say what the code exports?"""

from __future__ import annotations

from pathlib import Path

import pytest
from outrider.daemon.metrics.catalogue import CATALOGUE, MetricFact

pytestmark = pytest.mark.unit

README = Path(__file__).parents[3] / "daemon/README.md"


def row(fact: MetricFact) -> str:
    labels = ", ".join(f"`{label}`" for label in fact.labels)
    return f"| `{fact.name}` | {fact.kind} | {labels} | {fact.text} |"


def test_the_readme_has_a_row_for_each_metric() -> None:
    lines = README.read_text("utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| `outrider_")]
    assert rows == [row(fact) for fact in CATALOGUE.values()]
