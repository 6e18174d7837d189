"""The steps of an installation, and of a removal, under systemd and launchd."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from outrider.daemon.service.installation import (
    CommandStep,
    Found,
    RemoveFile,
    Step,
    WriteFile,
    plan_launchd,
    plan_launchd_removal,
    plan_systemd,
    plan_systemd_removal,
)
from outrider.daemon.service.layout import SYSTEM, mac_layout, user_layout
from outrider.daemon.service.reference import PLAN
from outrider.daemon.service.systemd_unit import render_socket

pytestmark = pytest.mark.unit

NO_SOCKET = replace(PLAN, has_socket=False)


def told(steps: list[Step]) -> list[str]:
    """The steps in short: commands without "systemctl", files by name."""
    return [
        " ".join(step.argv).removeprefix("systemctl ")
        if isinstance(step, CommandStep)
        else f"{'write' if isinstance(step, WriteFile) else 'remove'} {step.path.name}"
        for step in steps
    ]


def test_a_first_installation_of_the_machines_service() -> None:
    steps = plan_systemd(replace(NO_SOCKET, settings={"OUTRIDER_DEBUG": "1"}), SYSTEM, Found())
    assert told(steps) == [
        "write outrider.conf",
        "systemd-sysusers /etc/sysusers.d/outrider.conf",
        "write outrider.env",
        "write outrider.service",
        "daemon-reload",
        "enable --quiet outrider.service",
        "restart outrider.service",
    ]
    settings = steps[2]
    assert isinstance(settings, WriteFile)
    assert settings.text.endswith("\nOUTRIDER_DEBUG=1\n")
    assert (settings.mode, settings.group) == (0o640, "outrider")
    enable = steps[5]
    assert isinstance(enable, CommandStep)
    assert enable.undo == ("systemctl", "disable", "--now", "outrider.service")


def test_a_socket_that_stays_as_it_is_is_not_closed() -> None:
    found = Found(True, True, is_socket_active=True, socket_text=render_socket(PLAN))
    assert told(plan_systemd(PLAN, SYSTEM, found))[-3:] == [
        "daemon-reload",
        "enable --quiet outrider.service outrider.socket",
        "restart outrider.service",
    ]
    moved = replace(PLAN, address="127.0.0.1:1")
    assert told(plan_systemd(moved, SYSTEM, found))[-3:] == [
        "stop outrider.service outrider.socket",
        "start outrider.socket",
        "restart outrider.service",
    ]


def test_a_socket_that_is_not_wanted_any_more_goes() -> None:
    steps = told(plan_systemd(NO_SOCKET, SYSTEM, Found(True, has_socket=True)))
    at = steps.index("disable --now outrider.socket")
    assert steps[at + 1 : at + 3] == ["remove outrider.socket", "write outrider.service"]


def test_a_users_service_touches_only_the_users_files() -> None:
    config = Path("/home/me/.config")
    steps = plan_systemd(replace(PLAN, is_system=False), user_layout(config), Found())
    files = [step.path for step in steps if isinstance(step, WriteFile)]
    assert all(path.is_relative_to(config) for path in files)
    commands = [step.argv[:2] for step in steps if isinstance(step, CommandStep)]
    assert set(commands) == {("systemctl", "--user")}


def test_a_removal_leaves_settings_and_models() -> None:
    steps = plan_systemd_removal(SYSTEM, is_system=True, has_socket=True)
    removed = {step.path for step in steps if isinstance(step, RemoveFile)}
    assert removed == {SYSTEM.unit, SYSTEM.socket, SYSTEM.sysusers}
    # The socket first: a connection would start the service again.
    assert told(steps)[0] == "disable --now --quiet outrider.socket outrider.service"


def test_launchd_is_asked_to_forget_an_earlier_one() -> None:
    layout = mac_layout(Path("/Users/me"), system=False)
    steps = plan_launchd(NO_SOCKET, layout, "gui/501")
    assert told(steps) == [
        "write org.outrider.daemon.plist",
        "launchctl bootout gui/501/org.outrider.daemon",
        f"launchctl bootstrap gui/501 {layout.unit}",
    ]
    assert isinstance(steps[0], WriteFile)
    assert steps[0].mode == 0o600
    assert told(plan_launchd_removal(layout, "gui/501"))[-1] == "remove org.outrider.daemon.plist"
