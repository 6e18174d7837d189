"""The table of families in the README says what the registries say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from outrider.daemon.chat.parse.registry import FAMILIES
from outrider.daemon.chat.render.builtin.registry import RENDERERS

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
NAME = re.compile(r"`([^`]+)`")
ROWS = [
    [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in (ROOT / "daemon/chat/README.md").read_text("utf-8").splitlines()
    if re.match(r"\| `[\w.-]+`(?:, `[\w.-]+`)* \| `\w+\.py` \|", line)
]


def test_every_parser_and_renderer_has_a_row() -> None:
    parsers = [name for row in ROWS for name in NAME.findall(row[0])]
    renderers = [name for row in ROWS for name in NAME.findall(row[2])]
    assert sorted(parsers) == sorted(FAMILIES)
    assert sorted(renderers) == sorted(RENDERERS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_describes_its_families(row: list[str]) -> None:
    assert (ROOT / "daemon/chat/parse" / NAME.findall(row[1])[0]).is_file()
    for name in NAME.findall(row[0]):
        family = FAMILIES[name]
        facts = (family.thinks, family.calls, bool(family.call_grammar))
        assert [cell == "yes" for cell in row[-3:]] == list(facts)
        assert all(opening in row[3] for opening in family.openings[:3])
