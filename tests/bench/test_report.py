"""What runs become: ratios, medians, verdicts, the table, the JSON file and the plot."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.failure import BenchFailed
from bench.plot import Axis, draw
from bench.report import ROWS, Finding, Goal, Results, Run, find, read, save, spread, table
from bench.scenarios import Prompts, Values
from bench.speculation import CELLS, FIXED, OURS, PEER
from bench.speculation_table import lines, speculation_table
from msgspec.structs import replace

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"
# (Outrider, peer) of three runs: the median of the ratios is 1.2, the ratio of the medians 1.25
RATES = ((110.0, 100.0), (60.0, 50.0), (100.0, 80.0))


def results(*runs: tuple[Values, Values]) -> Results:
    measured = [Run(0.1, ours, theirs) for ours, theirs in runs]
    machine: dict[str, str | int | float] = {"cpu": "A <fast> & small one"}
    return Results(datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), machine, {"slots": 16}, measured)


def rates() -> Results:
    return results(*(({"rate-1": ours}, {"rate-1": theirs}) for ours, theirs in RATES))


def everything() -> Results:
    """Each row of each run has a figure; the engine's own work has no peer."""
    ours = {row.key: 0.5 + i for i, row in enumerate(ROWS)}
    theirs = {row.key: 2.0 + i for i, row in enumerate(ROWS) if "overhead" not in row.key}
    return results((ours, theirs), ({key: 1.5 * value for key, value in ours.items()}, theirs))


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1
    return findings[0]


def test_ratios_are_taken_run_by_run() -> None:
    found = only(find(rates()))
    assert found.ratio == spread([1.1, 1.2, 1.25])
    assert found.ratio.middle == pytest.approx(1.2)
    assert (found.outrider.middle, found.peer and found.peer.middle) == (100.0, 80.0)


def test_the_median_of_an_even_number_of_runs_lies_between() -> None:
    assert spread([4.0, 1.0, 2.0, 3.0]).middle == 2.5


@pytest.mark.parametrize(
    ("goal", "met", "missed"),
    [(Goal(1.0, at_least=True), 1.0, 0.99), (Goal(0.35), 0.35, 0.36)],
)
def test_a_goal_includes_its_bound(goal: Goal, met: float, missed: float) -> None:
    assert goal.is_met(met)
    assert not goal.is_met(missed)


def test_a_goal_of_its_own_does_not_look_at_the_ratio() -> None:
    found = only(find(results(({"stall": 3.5}, {"stall": 35.0}))))
    assert found.ratio
    assert found.ratio.middle == pytest.approx(0.1)
    assert found.is_met is False


def test_a_ratio_goal_without_a_peer_is_neither_met_nor_missed() -> None:
    found = only(find(results(({"rate-1": 50.0}, {}))))
    assert (found.ratio, found.is_met) == (None, None)


def test_a_run_in_which_a_figure_is_missing_does_not_count() -> None:
    found = only(find(results(({"rate-4": 9.0}, {"rate-4": 3.0}), ({}, {"rate-4": 1.0}))))
    assert found.ratio == spread([3.0])


def test_the_table_is_aligned_and_tells_verdicts() -> None:
    lines = table(find(rates())).splitlines()
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[2].split()[-3:] == [">=", "1.00", "met"]
    assert lines[2].split()[-6:-3] == ["1.10", "1.20", "1.25"]


def test_every_row_has_its_line_and_missed_goals_stand_out() -> None:
    text = table(find(everything()))
    assert all(row.title in text for row in ROWS)
    assert "MISSED" in text
    assert "<= 3.00 *" in text


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    path = save(everything(), tmp_path / "new")
    assert read(path) == everything()
    assert [file.name for file in path.parent.iterdir()] == ["20300102-030405.json"]


@pytest.mark.parametrize("content", ["", "{}", '{"runs": 3}'])
def test_a_file_with_something_else_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(BenchFailed, match=r"other\.json holds no results"):
        read(path)


def test_the_plot_is_well_formed_and_shows_what_has_a_ratio_or_an_own_goal() -> None:
    root = ElementTree.fromstring(draw(everything()))
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert any("A <fast> & small one" in text for text in texts)
    shown = [f for f in find(everything()) if f.ratio]
    own = [f for f in find(everything()) if f.row.goal and not f.row.goal.of_ratio]
    assert len(list(root.iter(f"{SVG}circle"))) == len(shown) + len(own)


def test_a_plot_of_few_rows_keeps_everything_inside() -> None:
    root = ElementTree.fromstring(draw(rates()))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for line in root.iter(f"{SVG}line"):
        assert 0 <= float(line.attrib["x1"]) <= float(line.attrib["x2"]) <= width
        assert 0 <= float(line.attrib["y2"]) <= height


def test_an_axis_is_logarithmic_and_ends_where_it_ends() -> None:
    axis = Axis(0.1, 10)
    assert axis.x(1) == pytest.approx((axis.x(0.1) + axis.x(10)) / 2)
    assert axis.x(1000) == axis.x(10)


def test_prompts_depend_on_their_seed_alone() -> None:
    assert Prompts("a").long(200) == Prompts("a").long(200)
    assert Prompts("a").long(200).split()[:20] != Prompts("b").long(200).split()[:20]


def pair_runs() -> Results:
    """Adaptive is 1.5 times plain; fixed lengths and the peer's ways get slower, way by way."""
    ours = {cell.key(way): 12.0 - i for cell in CELLS for i, way in enumerate(FIXED)}
    ours |= {cell.key("plain"): 10.0 for cell in CELLS}
    ours |= {cell.key("adaptive"): 15.0 for cell in CELLS}
    ours |= {cell.key("same"): 1.0 for cell in CELLS} | {"ahead-misjudged": 0.02}
    ours |= {cell.key("bound"): 2.0 for cell in CELLS if cell.streams == 1}
    theirs = {cell.key(way): 16.0 - i for cell in CELLS for i, way in enumerate(PEER)}
    return results((ours, theirs), ({key: 2 * value for key, value in ours.items()}, theirs))


def test_adaptive_is_held_against_the_best_of_each_kind() -> None:
    line = lines(pair_runs().runs)[0]
    assert line.by["plain"].middle == pytest.approx(1.5)
    assert (line.fixed, line.by["fixed"].middle) == ("1", pytest.approx(15 / 12))
    assert (line.peer, line.by["peer"].low) == ("plain", pytest.approx(15 / 16))
    assert {"plain", *FIXED, "adaptive"} == set(OURS)


def test_what_one_stream_gains_is_held_against_the_bound() -> None:
    single, *_, eighth = lines(pair_runs().runs[:1])
    assert (single.bound, eighth.bound) == (pytest.approx(1.5 / 2.0), None)


def test_a_peer_without_a_drafter_has_fewer_ways() -> None:
    both = pair_runs()
    for key in [cell.key(way) for cell in CELLS for way in ("2", "4")]:
        del both.runs[0].peer[key]  # which all runs share
    assert {line.peer for line in lines(both.runs)} == {"plain"}


def test_a_run_that_was_stopped_counts_where_it_came_to() -> None:
    first, second = pair_runs().runs
    kept = {key: value for key, value in second.outrider.items() if key.startswith("ahead-1-")}
    stopped = replace(pair_runs(), runs=[first, replace(second, outrider=kept)])
    single, *_, eighth = lines(stopped.runs)
    assert (single.by["peer"].middle, eighth.by["peer"].middle) == pytest.approx(
        (1.5 * 15 / 16, 15 / 16)
    )
    assert "error of 2.0%" in speculation_table(stopped)


def test_a_cell_below_its_goal_is_marked() -> None:
    both = pair_runs()
    text = speculation_table(replace(both, runs=both.runs[:1]))
    assert text.count("0.94!") == len(CELLS)
    assert text.count("0.75!") == len([cell for cell in CELLS if cell.streams == 1])
    assert "0.94!" not in speculation_table(both)
    assert "error of 2.0%" in text
    assert speculation_table(results(({}, {}))) == ""


def test_table_and_plot_say_which_pair_it_is() -> None:
    old = pair_runs()
    new = replace(old, settings={"pair": "moe"})
    assert "with the pair qwen:" in speculation_table(old)
    assert "with the pair moe:" in speculation_table(new)
    assert "the pair moe" in draw(new)


def test_the_plot_shows_the_pair() -> None:
    ElementTree.fromstring(draw(pair_runs()))
    assert "8 json 1, by fixed" in draw(pair_runs())
