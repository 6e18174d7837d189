"""Are the catalog's entries complete and found?"""

import re

import pytest
from outrider.models.name import Name
from outrider.models.sources.catalog import CATALOG, CatalogEntry, find

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("text", ["smollm2:135m", "SmolLM2:135M", "library/smollm2:135m"])
def test_finds_whatever_the_case(text: str) -> None:
    entry = find(Name.parse(text))
    assert entry is not None
    assert entry.name.short == "smollm2:135m"


@pytest.mark.parametrize("text", ["smollm2", "smollm2:1.7b", "user/smollm2:135m", "h/n/m"])
def test_finds_nothing_else(text: str) -> None:
    assert find(Name.parse(text)) is None


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name.short)
def test_everything_is_pinned(entry: CatalogEntry) -> None:
    assert re.fullmatch(r"\d+(\.\d+)+", entry.version)
    assert all(re.fullmatch("[0-9a-f]{64}", member.sha256) for member in entry.members)
    assert all(member.size_bytes > 0 for member in entry.members)
    assert entry.weights.path.endswith(".gguf")
    assert entry.notice.endswith("\n")


def test_names_are_unique() -> None:
    assert len({entry.name.full.lower() for entry in CATALOG}) == len(CATALOG)
