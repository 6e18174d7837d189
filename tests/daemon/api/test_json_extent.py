"""The extent of a JSON text: the numbers that a parser would find, whatever its strings hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outrider.daemon.api.json_extent import CHUNK_BYTES, JsonExtent, measure_json

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.integers() | st.text('a"\\[]{},:\né'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('k"\\,{'), inner),
    max_leaves=12,
)


def count(value: object) -> tuple[int, int, int, int]:
    """Values, containers, keys and depth."""
    if not isinstance(value, list | dict):
        return 1, 0, 0, 0
    items = value if isinstance(value, list) else list(value.values())
    inner = [count(item) for item in items]
    num_keys = len(value) if isinstance(value, dict) else 0
    return (
        1 + sum(item[0] for item in inner) + num_keys,
        1 + sum(item[1] for item in inner),
        num_keys + sum(item[2] for item in inner),
        1 + max((item[3] for item in inner), default=0),
    )


@settings(max_examples=60, deadline=None)
@given(JSON, st.booleans())
def test_it_counts_what_a_parser_finds(value: object, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    values, containers, keys, depth = count(value)
    extent = measure_json(text.encode())
    assert (extent.num_containers, extent.num_keys, extent.depth) == (containers, keys, depth)
    assert (
        values <= extent.num_values <= values + containers
    )  # an empty one counts as if it had one


@pytest.mark.parametrize("shift", range(6))
def test_a_string_may_span_pieces_and_end_them_with_backslashes(shift: int) -> None:
    filler = "a" * (CHUNK_BYTES - shift) + '\\\\\\"[{,:' * 3
    text = json.dumps([filler, filler, {"k": 1}])
    assert json.loads(text)[0] == filler
    extent = measure_json(text.encode())
    assert extent == JsonExtent(6, 2, 1, num_escapes=24, depth=2)


@pytest.mark.parametrize("text", [b"", b'"', b'"\\', b"\\", b"]]]]", b"\xff\xfe"])
def test_what_is_no_json_has_some_extent(text: bytes) -> None:
    assert measure_json(text).depth <= 1
