"""systemd accepts the units in silence, finds them safe, and those in systemd/ are up to date."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from outrider.daemon.service.layout import SYSTEM, ServicePlan, user_layout
from outrider.daemon.service.reference import PLAN, render_reference
from outrider.daemon.service.systemd_unit import render_service, render_socket

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parents[2] / "systemd"
RENEW = "python -m outrider.daemon.service.reference systemd/ writes them"
SAFE = 3.0  # of 10, by `systemd-analyze security`; less is better
HERE = replace(PLAN, python=Path(sys.executable))  # verify wants to see the program


@pytest.fixture(scope="module")
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed")
    return found


def write(folder: Path, plan: ServicePlan) -> Path:
    layout = SYSTEM if plan.is_system else user_layout(folder)
    (folder / "outrider.socket").write_text(render_socket(plan))
    unit = folder / "outrider.service"
    unit.write_text(render_service(plan, layout))
    return unit


@pytest.mark.parametrize("scope", ["system", "user"])
def test_systemd_accepts_them_in_silence(analyze: str, tmp_path: Path, scope: str) -> None:
    unit = write(tmp_path, replace(HERE, is_system=scope == "system"))
    argv = [analyze, f"--{scope}", "verify", unit, tmp_path / "outrider.socket"]
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_the_service_safe(
    analyze: str, tmp_path: Path, measurements: list[str]
) -> None:
    unit = write(tmp_path, HERE)
    argv = [analyze, "security", "--offline=true", "--no-pager", unit]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for outrider.service: ([\d.]+)", done.stdout)
    assert found, done
    measurements.append(f"exposure by systemd-analyze security: {found[1]} of 10 (<= {SAFE})")
    assert float(found[1]) <= SAFE


def test_the_units_for_packagers_are_up_to_date() -> None:
    found = {
        str(path.relative_to(FOLDER)): path.read_text()
        for path in FOLDER.rglob("*")
        if path.is_file() and path.suffix != ".md"
    }
    assert found == render_reference(), RENEW
