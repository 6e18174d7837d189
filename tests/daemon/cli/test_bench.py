"""The table and the page of `outrider bench`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from xml.etree import ElementTree

import pytest
from outrider.daemon.cli import bench, bench_page
from outrider.daemon.cli.bench import BenchCell, BenchResult, BenchRun, TimedAnswer
from outrider.daemon.cli.bench_prompts import ADAPTIVE, PLAIN, BenchRequest
from outrider.daemon.cli.client import Client, DaemonError, Json

pytestmark = pytest.mark.unit


def results() -> list[BenchResult]:
    (row,) = list(bench.rows([2], [0.0]))[:1]
    plain = [10.0, 20.0, 30.0]  # the machine drifts
    runs = [
        [BenchRun(speed * (1 + i / 10), drafted=i * 10, accepted=i * 4) for i in range(len(row))]
        for speed in plain
    ]
    return bench.summarise(row, runs)


def test_ratios_are_taken_within_a_run() -> None:
    row = results()
    assert [result.cell.mode for result in row] == [PLAIN, "1", "2", "4", "8", ADAPTIVE]
    assert [result.ratio for result in row] == pytest.approx([1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    assert row[0].tokens_per_s == 20.0
    assert row[0].acceptance is None
    assert row[1].acceptance == pytest.approx(0.4)


def test_a_rate_counts_while_all_streams_run() -> None:
    fast = TimedAnswer(5, tuple((0.0 + i, 1) for i in range(5)))  # at 0, 1, 2, 3 and 4 seconds
    slow = TimedAnswer(9, tuple((1.0 + i, 1) for i in range(9)))
    assert bench.rate([fast]) == pytest.approx(1.0)
    assert bench.rate([fast, slow]) == pytest.approx((3 + 3) / 3)


def test_lines_of_one_step_are_on_one_side_of_its_end() -> None:
    """In either order: tokens drafted for one stream during the prefill of the others do not count,
    and tokens of the others in its last step do."""
    first = TimedAnswer(20, ((0.0, 1), (1.002, 16), (2.0, 1), (3.0, 1), (4.0, 1)))
    others = TimedAnswer(7, tuple((1.001 + 1.001 * i, 1) for i in range(7)))
    assert bench.rate([first, others]) == pytest.approx((3 + 3) / 3, rel=0.01)


@pytest.mark.parametrize("lines", [(), ((1.0, 3),)])
def test_answers_of_one_line_cannot_be_measured(lines: tuple[tuple[float, int], ...]) -> None:
    with pytest.raises(DaemonError, match="ask for more tokens"):
        bench.rate([TimedAnswer(1, lines)])


class BusyMachine(Client):
    """Sends the second of two requests when the first is answered, unless that takes long."""

    def __init__(self, enough: int) -> None:
        self.enough = enough  # tokens of an answer during which the second request arrives
        self.asked: list[int] = []  # tokens, by request
        self.is_first_done = asyncio.Event()

    async def stream(self, path: str, body: Json) -> AsyncIterator[Json]:
        tokens = body["options"]["num_predict"]
        self.asked.append(tokens)
        is_first = len(self.asked) % 2 == 1
        if tokens >= self.enough:
            self.is_first_done.set()
        elif not is_first:
            await self.is_first_done.wait()
        for _ in range(3):
            yield {"logprobs": [{}], "eval_count": tokens}
            await asyncio.sleep(0.01 if tokens >= self.enough else 0)
        self.is_first_done.set()


def test_streams_that_do_not_overlap_are_asked_for_more_tokens() -> None:
    cell = BenchCell("chat", 0.0, streams=2, mode=PLAIN)
    machine = BusyMachine(enough=400)
    assert asyncio.run(bench.measure(machine, "tiny", cell, 100)).tokens_per_s > 0
    assert machine.asked == [100, 100, 200, 200, 400, 400]
    with pytest.raises(DaemonError, match="ask for more tokens"):
        asyncio.run(bench.measure(BusyMachine(enough=10_000), "tiny", cell, 100))


def test_the_table_is_aligned() -> None:
    head, line = bench.header(), bench.line(results())
    assert len(head) == len(line)
    assert line.startswith("      2  chat      0        20.0   1.10x 40%")


def test_the_page_has_a_plot_for_each_prompt_and_needs_nothing_else() -> None:
    page = bench_page.render("<model>", "ngram", [results(), results()])
    assert page.count("<svg") == 2
    assert "<model>" not in page
    assert "&lt;model&gt;" in page
    assert "http" not in page
    for svg in page.split("<svg")[1:]:
        inside = svg[svg.index(">") + 1 : svg.index("</svg>")]
        bars = ElementTree.fromstring(f"<svg>{inside}</svg>").findall("rect")
        assert len(bars) == len(bench.MODES)


@pytest.mark.parametrize(
    ("mode", "option"),
    [(PLAIN, {"draft_num_predict": 0}), ("4", {"draft_fixed": 4}), (ADAPTIVE, {})],
)
def test_a_request_sets_the_draft_length_of_its_mode(mode: str, option: dict[str, int]) -> None:
    options = BenchRequest("m", "json", mode).body()["options"]
    sent = {name: value for name, value in options.items() if name.startswith("draft")}
    assert sent == option
