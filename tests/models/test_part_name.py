"""Are the parts of a split model recognised by their names?"""

import pytest
from outrider.models.part_name import part_names

pytestmark = pytest.mark.unit


def test_every_part_is_named() -> None:
    expected = tuple(f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3))
    assert {part_names(name) for name in expected} == {expected}


@pytest.mark.parametrize(
    "name", ["m.gguf", "m-2-of-3.gguf", "-00002-of-00003.gguf", "m-00001-of-00002.bin"]
)
def test_other_names_stand_alone(name: str) -> None:
    assert part_names(name) == (name,)
