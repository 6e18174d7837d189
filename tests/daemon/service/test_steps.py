"""Steps are carried out in turn; where one fails, all is as it was."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from outrider.daemon.service.installation import CommandStep, RemoveFile, WriteFile
from outrider.daemon.service.steps import ServiceFailed, carry_out

pytestmark = pytest.mark.unit

FAIL = (sys.executable, "-S", "-c", "import sys; sys.exit('no rights\\nat all')")


def test_each_step_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    one, two = tmp_path / "deep/one", tmp_path / "two"
    two.write_text("2")
    steps = [
        WriteFile(one, "1", 0o640),
        WriteFile(two, "2"),
        RemoveFile(tmp_path / "three"),
        CommandStep(("true",), "it runs"),
        CommandStep(("false",), "it does not", may_fail=True),
    ]
    carry_out(steps, told.append)
    assert told == [f"wrote {one}", f"kept {two}", "it runs"]
    assert stat.S_IMODE(one.stat().st_mode) == 0o640
    assert sorted(path.name for path in one.parent.iterdir()) == ["one"]


def test_a_step_that_fails_undoes_the_others(tmp_path: Path) -> None:
    new, old, gone = (tmp_path / name for name in ("new", "old", "gone"))
    old.write_text("before")
    gone.write_text("here")
    undone = tmp_path / "undone"
    steps = [
        WriteFile(new, "x"),
        WriteFile(old, "after"),
        RemoveFile(gone),
        CommandStep(("true",), "on", undo=("touch", str(undone))),
        CommandStep(FAIL, "never"),
    ]
    with pytest.raises(ServiceFailed, match=r"failed: no rights$"):
        carry_out(steps, lambda _: None)
    assert not new.exists()
    assert (old.read_text(), gone.read_text()) == ("before", "here")
    assert undone.exists()


def test_the_log_tells_why_better_than_the_command() -> None:
    log = ("printf", "%s\\n", "Error: one", "Error: the port is taken", "bye")
    with pytest.raises(ServiceFailed, match=r"failed: the port is taken$"):
        carry_out([CommandStep(FAIL, "", log=log)], lambda _: None)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceFailed, match="file: "):
        carry_out([WriteFile(tmp_path / "file/unit", "x")], lambda _: None)


def test_a_missing_command_is_named() -> None:
    with pytest.raises(ServiceFailed, match="there is no command no-such-command"):
        carry_out([CommandStep(("no-such-command",), "")], lambda _: None)
