"""The file of lines typed at the prompt."""

from pathlib import Path

import pytest
from outrider.daemon.cli.history import LINES, HistoryFile, entries, is_unfinished, lines_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "unfinished"),
    [
        ("hi", False),
        ('"""', True),
        ('"""one', True),
        ('"""one"""', False),
        ('/set system """a\nb', True),
        ('say """x', False),
    ],
)
def test_a_message_goes_on_until_the_quotes_end(text: str, unfinished: bool) -> None:
    assert is_unfinished(text) is unfinished


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "new" / "history")
    typed = ["one", '"""two\nlines"""', "three\nfour"]
    for entry in typed:
        file.append(entry)
    assert file.read() == [*typed[:2], '"""three\nfour"""']
    assert file.path.parent.stat().st_mode & 0o777 == 0o700


def test_blank_lines_are_kept_between_quotes_alone() -> None:
    assert entries(["a", "", '"""b', "", 'c"""', "d"]) == ["a", '"""b\n\nc"""', "d"]
    assert lines_of("a") == "a"


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("".join(f"{number}\n" for number in range(3 * LINES)))
    read = HistoryFile(path).read()
    assert (len(read), read[-1]) == (LINES, f"{3 * LINES - 1}")
    assert len(path.read_text().splitlines()) == LINES


def test_a_file_that_cannot_be_used_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = HistoryFile(tmp_path)  # a folder
    assert file.read() == []
    file.append("x")
    assert capsys.readouterr().err.count("Warning: no history of typed lines: ") == 2
