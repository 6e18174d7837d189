"""The progress of a pull, in a terminal and elsewhere."""

import io
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import pytest
from outrider.daemon.cli.client import DaemonError
from outrider.daemon.cli.progress import ERASE, LayerProgress, ProgressView, bar, follow

pytestmark = pytest.mark.unit

GB = 10**9


class Terminal(io.StringIO):
    """Text output that reports to be a terminal."""

    def isatty(self) -> bool:
        return True


def layer(completed: int, total: int = 2 * GB) -> dict[str, Any]:
    line = {"status": "pulling 74701a8c35f6", "digest": "sha256:74701a8c35f6", "total": total}
    return {**line, "completed": completed} if completed else line


async def stream(lines: Sequence[dict[str, Any]]) -> AsyncGenerator[dict[str, Any], None]:
    for line in lines:
        yield line


def seconds() -> Iterator[float]:
    yield from map(float, range(100))


def test_a_bar_shows_share_sizes_rate_and_time_left() -> None:
    half = LayerProgress("pulling 7470", 0, GB, 2 * GB, elapsed_s=10.0)
    assert bar(half, 100) == (
        "pulling 7470:  50% [############------------]  1.0 GB/2.0 GB  100 MB/s  10s"
    )
    done = LayerProgress("pulling 7470", 0, 2 * GB, 2 * GB, elapsed_s=20.0)
    assert bar(done, 100) == "pulling 7470: 100% [########################]  2.0 GB"


def test_what_was_there_before_does_not_count_for_the_rate() -> None:
    resumed = LayerProgress("pulling 7470", GB, GB, 2 * GB, elapsed_s=5.0)
    assert resumed.rate == 0.0
    assert bar(resumed, 100).endswith("1.0 GB/2.0 GB")


def test_a_bar_never_fills_the_last_column() -> None:
    assert len(bar(LayerProgress("pulling 7470", 0, GB, 2 * GB, 1.0), 40)) == 39


def test_a_terminal_rewrites_the_bar_and_keeps_it_when_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    out, clock = Terminal(), seconds()
    progress = ProgressView(out, lambda: next(clock))
    for line in ({"status": "pulling manifest"}, layer(0), layer(GB), layer(2 * GB)):
        progress.show(line)
    progress.show(layer(2 * GB))
    progress.show({"status": "success"})
    name, half, full = "pulling 74701a8c35f6", "#" * 12, "#" * 24
    assert out.getvalue().split(ERASE)[1:] == [
        "pulling manifest\n",
        f"{name}:   0% [{'-' * 24}]  0 B/2.0 GB",
        f"{name}:  50% [{half}{'-' * 12}]  1.0 GB/2.0 GB  1.0 GB/s  1s",
        f"{name}: 100% [{full}]  2.0 GB\n",
        "success\n",
    ]


def test_elsewhere_each_status_is_one_plain_line() -> None:
    out = io.StringIO()
    progress = ProgressView(out)
    for line in ({"status": "pulling manifest"}, layer(0), layer(GB), {"status": "success"}):
        progress.show(line)
    assert out.getvalue() == "pulling manifest\npulling 74701a8c35f6\nsuccess\n"


async def test_a_bar_that_is_cut_off_ends_its_line() -> None:
    out = Terminal()
    with pytest.raises(DaemonError, match="stopped after 'pulling 74701a8c35f6'; try again"):
        await follow(stream([{"status": "pulling manifest"}, layer(GB)]), out)
    assert out.getvalue().endswith("\n")


async def test_success_is_the_end() -> None:
    await follow(stream([{"status": "pulling manifest"}, {"status": "success"}]), io.StringIO())
