"""systemd accepts the unit file, and it has the settings that the daemon relies on."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

UNIT = Path(__file__).parents[2] / "systemd" / "outrider.service"


@pytest.fixture
def unit() -> dict[str, list[str]]:
    """The values of each key in order; a unit may give a key more than once."""
    values: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values.setdefault(key, []).append(value)
    return values


def test_systemd_accepts_it_in_silence() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([analyze, "verify", UNIT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("ExecStart", "/usr/bin/env outrider serve"),
        ("Restart", "on-failure"),
        ("KillMode", "mixed"),
        ("DynamicUser", "yes"),
        ("User", "outrider"),
        ("StateDirectory", "outrider"),
        ("SupplementaryGroups", "video render"),
        ("EnvironmentFile", "-/etc/outrider.env"),
        ("WantedBy", "multi-user.target"),
    ],
)
def test_its_settings(unit: dict[str, list[str]], key: str, value: str) -> None:
    assert unit[key] == [value]


def test_models_lie_in_the_state_directory(unit: dict[str, list[str]]) -> None:
    environment = dict(line.split("=", 1) for line in unit["Environment"])
    state = f"/var/lib/{unit['StateDirectory'][0]}"
    assert environment["OUTRIDER_MODELS"] == f"{state}/models"
    assert environment["HOME"] == state
    assert {"/opt/outrider/bin", "/usr/local/bin"} <= set(environment["PATH"].split(":"))


def test_it_has_documentation_and_time_to_stop(unit: dict[str, list[str]]) -> None:
    assert unit["Documentation"]
    assert int(unit["TimeoutStopSec"][0]) > 0
    assert int(unit["RestartSec"][0]) > 0
