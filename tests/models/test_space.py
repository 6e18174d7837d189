"""Is a lack of space told before anything is written, with both numbers?"""

from pathlib import Path

import pytest
from outrider.models.errors import NoSpace
from outrider.models.space import format_bytes, require_space

pytestmark = pytest.mark.unit


def test_what_fits_is_no_error(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "made", 1, "a byte")
    assert list(tmp_path.iterdir()) == []


def test_both_numbers_are_told(tmp_path: Path) -> None:
    words = rf"disk space in {tmp_path}: 90000.0 TB are needed for x, [\d.]+ \w+ are free; make"
    with pytest.raises(NoSpace, match=words):
        require_space(tmp_path, 9 * 10**16, "x")


def test_a_reserve_stays_free(tmp_path: Path) -> None:
    words = r"1 B are needed for x, 0 B are free besides a reserve of 1000000\.0 TB; make"
    with pytest.raises(NoSpace, match=words):
        require_space(tmp_path, 1, "x", reserve_bytes=10**18)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (999_999, "1000.0 kB"),
        (4_200_000_000, "4.2 GB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_bytes_as_people_read_them(count: int, text: str) -> None:
    assert format_bytes(count) == text
