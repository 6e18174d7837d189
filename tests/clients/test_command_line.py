"""The `outrider` command against a running daemon, as a user types it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Daemon

pytestmark = pytest.mark.contract

BRIEF = "brief:latest"
# A context of its own, so that a loaded smollm2:135m does not serve it under that name.
MODELFILE = """\
FROM smollm2:135m
PARAMETER num_predict 32
PARAMETER seed 7
PARAMETER num_ctx 2048
"""


def outrider(daemon: Daemon, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "outrider.daemon", *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OUTRIDER_HOST": daemon.url},
    )


@pytest.fixture(scope="module", autouse=True)
def brief(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The real model with a bound on its answers: left alone it may talk for minutes."""
    file: Path = tmp_path_factory.mktemp("brief") / "Modelfile"
    file.write_text(MODELFILE)
    result = outrider(daemon, "create", "brief", "-f", str(file))
    assert result.returncode == 0, result.stderr
    yield
    assert outrider(daemon, "rm", "brief").returncode == 0


def test_run_answers_once(daemon: Daemon) -> None:
    result = outrider(daemon, "run", BRIEF, "Why is the sky blue?", "--verbose")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) > 5
    assert "eval rate:" in result.stderr


def test_run_reads_standard_input(daemon: Daemon) -> None:
    args = ("run", BRIEF, "--verbose", "--format", '{"enum":["yes"]}', "Repeat these words:")
    lengths = []
    for stdin in ("", "violin " * 40):
        result = outrider(daemon, *args, stdin=stdin)
        assert result.returncode == 0
        count = re.search(r"prompt eval count: +(\d+)", result.stdout + result.stderr)
        assert count
        lengths.append(int(count[1]))
    assert lengths[1] > lengths[0] + 30


def test_the_tables_show_the_model(daemon: Daemon) -> None:
    outrider(daemon, "stop", "smollm2:135m")  # `ps` has the name that loaded the weights first
    assert outrider(daemon, "run", BRIEF, "Hi").returncode == 0
    for verb, header in (("list", "NAME"), ("ps", "PROCESSOR"), ("show", "architecture")):
        result = outrider(daemon, verb, *([BRIEF] if verb == "show" else []))
        assert header in result.stdout
        assert verb == "show" or BRIEF in result.stdout


def test_copy_stop_and_remove(daemon: Daemon) -> None:
    assert outrider(daemon, "cp", "tiny", "tiny-2").stdout == "copied 'tiny' to 'tiny-2'\n"
    assert outrider(daemon, "stop", BRIEF).returncode == 0
    assert BRIEF not in outrider(daemon, "ps").stdout
    assert outrider(daemon, "rm", "tiny-2").stdout == "deleted 'tiny-2'\n"


@pytest.mark.parametrize(
    "args",
    [
        ("show", "nobody"),
        ("rm", "nobody"),
        ("run", "a//b", "x"),
        ("pull", "127.0.0.1:9/library/nobody"),
        ("cp", "x", "y"),
    ],
)
def test_a_mistake_is_one_plain_line(daemon: Daemon, args: tuple[str, ...]) -> None:
    result = outrider(daemon, *args)
    assert result.returncode == 1
    *_, last = result.stderr.strip().splitlines()
    assert last.startswith("Error: ")
    assert "Traceback" not in result.stderr


def test_the_version_is_in_every_answer(daemon: Daemon) -> None:
    result = outrider(daemon, "--version")
    assert result.stdout.startswith("outrider version is ")
    assert "Warning" not in result.stderr
