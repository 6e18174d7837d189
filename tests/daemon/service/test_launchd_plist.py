"""The property list for launchd, as Python's plistlib reads it."""

from __future__ import annotations

import plistlib
from dataclasses import replace
from pathlib import Path

import pytest
from outrider.daemon.service.launchd_plist import render_plist
from outrider.daemon.service.layout import mac_layout
from outrider.daemon.service.reference import PLAN

pytestmark = pytest.mark.unit

HOME = Path("/Users/me")


def test_an_agent_of_a_user() -> None:
    layout = mac_layout(HOME, system=False)
    assert layout.unit == HOME / "Library/LaunchAgents/org.outrider.daemon.plist"
    plan = replace(PLAN, settings={"OUTRIDER_HOST": "a<b>&:1"}, home=HOME)
    found = plistlib.loads(render_plist(plan, layout).encode())
    assert found["Label"] == layout.unit.stem
    assert found["ProgramArguments"] == [str(PLAN.python), "-m", "outrider.daemon", "serve"]
    assert found["EnvironmentVariables"] == {"OUTRIDER_HOST": "a<b>&:1"}
    assert found["RunAtLoad"] is True
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert found["StandardErrorPath"] == "/Users/me/Library/Logs/outrider.log"
    assert found["ExitTimeOut"] == 60


def test_a_daemon_of_the_machine_and_a_drain_without_end() -> None:
    layout = mac_layout(HOME, system=True)
    assert layout.unit == Path("/Library/LaunchDaemons/org.outrider.daemon.plist")
    text = render_plist(replace(PLAN, drain_s=float("inf")), layout)
    assert plistlib.loads(text.encode())["ExitTimeOut"] > 3600
