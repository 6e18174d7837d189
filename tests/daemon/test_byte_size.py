"""Sizes as users write them."""

from __future__ import annotations

import pytest
from outrider.daemon.byte_size import parse_bytes

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("12 B", 12),
        ("24GiB", 24 << 30),
        (" 1.5 gib ", 3 << 29),
        ("800MB", 800_000_000),
        ("16KiB", 16384),
        ("2tb", 2 * 10**12),
        (".5MiB", 1 << 19),
    ],
)
def test_units_are_binary_with_an_i_and_decimal_without(text: str, num_bytes: int) -> None:
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 GiBs", "24G", "1e9", "1,5GB", "ten"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as 24GiB"):
        parse_bytes(text)
