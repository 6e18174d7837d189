"""The text of the units: what depends on the plan, and paths that need care."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from outrider.daemon.service.layout import SYSTEM, user_layout
from outrider.daemon.service.reference import PLAN
from outrider.daemon.service.systemd_unit import render_service, render_socket, render_sysusers

pytestmark = pytest.mark.unit

USER = replace(PLAN, is_system=False, has_socket=False)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_the_machines_service_has_a_user_of_its_own() -> None:
    found = lines(render_service(PLAN, SYSTEM))
    assert "User=outrider" in found
    assert "SupplementaryGroups=render video" in found
    assert "ProtectSystem=strict" in found
    assert "DeviceAllow=char-nvidia-uvm rw" in found
    assert "WantedBy=multi-user.target" in found
    assert "Requires=outrider.socket" in found
    assert not [line for line in found if line.startswith("ExecStartPre")]


def test_a_users_service_needs_no_privileges() -> None:
    found = lines(render_service(USER, user_layout(Path("/home/me/.config"))))
    assert "NoNewPrivileges=yes" in found
    assert "WantedBy=default.target" in found
    assert "EnvironmentFile=-/home/me/.config/outrider/outrider.env" in found
    needing = ("User=", "Protect", "Private", "Device", "Requires=", "After=", "StateDirectory")
    assert not [line for line in found if line.startswith(needing)]


def test_folders_in_hidden_places_are_bound() -> None:
    plan = replace(
        PLAN,
        prefixes=(Path("/opt/x"), Path("/home/a b/venv"), Path("/root/.pyenv")),
        models=Path("/home/me/100%/models"),
    )
    found = lines(render_service(plan, SYSTEM))
    assert 'BindReadOnlyPaths="/home/a b/venv"' in found
    assert "BindReadOnlyPaths=/root/.pyenv" in found
    assert "BindReadOnlyPaths=/opt/x" not in found
    assert "BindPaths=/home/me/100%%/models" in found
    assert "ReadWritePaths=/home/me/100%%/models" in found


def test_an_interpreter_with_blanks_is_quoted() -> None:
    text = render_service(replace(PLAN, python=Path("/opt/my venv/bin/python")), SYSTEM)
    assert 'ExecStart="/opt/my venv/bin/python" -m outrider.daemon serve' in lines(text)


@pytest.mark.parametrize(("drain_s", "stop"), [(30.0, 60), (0.2, 31), (float("inf"), 30)])
def test_systemd_waits_longer_than_the_daemon_drains(drain_s: float, stop: int) -> None:
    found = lines(render_service(replace(PLAN, drain_s=drain_s), SYSTEM))
    assert f"TimeoutStopSec={stop}" in found


def test_nvidias_device_files_are_created_with_all_rights() -> None:
    plan = replace(PLAN, nvidia_modprobe=Path("/usr/bin/nvidia-modprobe"))
    assert "ExecStartPre=-+/usr/bin/nvidia-modprobe -u -c=0" in lines(render_service(plan, SYSTEM))


@pytest.mark.parametrize(
    ("address", "listen"),
    [("127.0.0.1:1", "127.0.0.1:1"), ("[::1]:1", "[::1]:1"), (":11434", "11434")],
)
def test_where_the_socket_listens(address: str, listen: str) -> None:
    assert f"ListenStream={listen}" in lines(render_socket(replace(PLAN, address=address)))


def test_the_user_is_in_the_groups_of_gpus() -> None:
    assert render_sysusers(["render"]).splitlines()[1:] == ["m outrider render"]
