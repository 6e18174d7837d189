"""Sizes, times and shares in words."""

from datetime import UTC, datetime, timedelta

import pytest
from outrider.daemon.cli import humanize

pytestmark = pytest.mark.unit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (98_100_000, "98 MB"),
        (999_600_000, "1.0 GB"),
        (1_321_000_000, "1.3 GB"),
        (9_960_000_000, "10 GB"),
        (13_100_000_000, "13 GB"),
        (2_500_000_000_000_000, "2500 TB"),
    ],
)
def test_size(size_bytes: int, text: str) -> None:
    assert humanize.size(size_bytes) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(134_515_008, "135M"), (1_235_814_432, "1.2B"), (27_400_000_000, "27.4B"), (812, "812")],
)
def test_count(number: int, text: str) -> None:
    assert humanize.count(number) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (98_200_000, "98.2ms"),
        (999_999_999, "999.999999ms"),
        (1_234_567_000, "1.234567s"),
        (1_000_000_001, "1.000000001s"),
        (60_000_000_000, "1m0s"),
        (3_723_500_000_000, "1h2m3.5s"),
        (-1_500_000, "-1.5ms"),
    ],
)
def test_go_duration(nanoseconds: int, text: str) -> None:
    assert humanize.go_duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(milliseconds=300), "Less than a second ago"),
        (timedelta(seconds=1), "1 second ago"),
        (timedelta(seconds=59), "59 seconds ago"),
        (timedelta(seconds=61), "About a minute ago"),
        (timedelta(minutes=4, seconds=50), "4 minutes ago"),
        (timedelta(hours=1, minutes=10), "About an hour ago"),
        (timedelta(hours=47), "47 hours ago"),
        (timedelta(days=2), "2 days ago"),
        (timedelta(weeks=3), "3 weeks ago"),
        (timedelta(days=70), "2 months ago"),
        (timedelta(days=900), "2 years ago"),
        (-timedelta(minutes=4, seconds=30), "4 minutes from now"),
    ],
)
def test_relative_time(ago: timedelta, text: str) -> None:
    assert humanize.relative_time(NOW - ago, NOW) == text


def test_until() -> None:
    assert humanize.until(NOW + timedelta(minutes=4.5), NOW) == "4 minutes from now"
    assert humanize.until(NOW + timedelta(days=200 * 365), NOW) == "Forever"
    assert humanize.until(NOW - timedelta(seconds=1), NOW) == "Stopping..."
    assert humanize.until(datetime(1, 1, 1, tzinfo=UTC), NOW) == "Stopping..."


@pytest.mark.parametrize(
    ("size_bytes", "vram_bytes", "text"),
    [
        (100, 100, "100% GPU"),
        (100, 0, "100% CPU"),
        (100, 69, "31%/69% CPU/GPU"),
        (100, 101, "Unknown"),
        (0, 5, "Unknown"),
    ],
)
def test_processor(size_bytes: int, vram_bytes: int, text: str) -> None:
    assert humanize.processor(size_bytes, vram_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (7.4, "7s"), (125, "2m05s"), (3780, "1h03m")]
)
def test_countdown(seconds: float, text: str) -> None:
    assert humanize.countdown(seconds) == text
