"""In which steps is a service installed, and removed? Decided here, carried out in steps.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..environment_file import merge_environment
from .launchd_plist import render_plist
from .layout import LABEL, NAME, ServiceLayout, ServicePlan
from .systemd_unit import render_service, render_socket, render_sysusers

PUBLIC, SECRET, GROUP_SECRET = 0o644, 0o600, 0o640  # modes; settings may hold keys
SETTINGS_HEAD = (
    "# Settings of the Outrider service, one NAME=VALUE a line (daemon/README.md has the table).\n"
    "# `outrider service reload` applies those that may change while it runs.\n"
)


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write a file; nothing happens if it reads so already."""

    path: Path
    text: str
    mode: int = PUBLIC
    group: str = ""  # empty: that of the process


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Remove a file if it is there."""

    path: Path


@dataclass(frozen=True, slots=True)
class CommandStep:
    """Run a command; `undo` is run if it or a later step fails."""

    argv: tuple[str, ...]
    told: str  # what it does
    undo: tuple[str, ...] = ()
    may_fail: bool = False
    log: tuple[str, ...] = ()  # a command that shows why it failed


Step = WriteFile | RemoveFile | CommandStep


@dataclass(frozen=True, slots=True)
class Found:
    """What of the service is there before an installation."""

    is_installed: bool = False
    has_socket: bool = False  # its file
    is_socket_active: bool = False
    socket_text: str = ""
    settings_text: str = ""


def plan_systemd(plan: ServicePlan, layout: ServiceLayout, found: Found) -> list[Step]:
    """The steps that install a service under systemd, or bring an installed one up to date."""
    control = systemctl(plan.is_system)
    assert layout.settings
    assert layout.socket
    text = merge_environment(found.settings_text or SETTINGS_HEAD, plan.settings)
    mode, group = (GROUP_SECRET, NAME) if plan.is_system else (SECRET, "")
    return [
        *_user_steps(plan, layout),
        WriteFile(layout.settings, text, mode, group),
        *_drop_socket(plan, layout, found, control),
        WriteFile(layout.unit, render_service(plan, layout)),
        *([WriteFile(layout.socket, render_socket(plan))] if plan.has_socket else []),
        CommandStep((*control, "daemon-reload"), "systemd has read the units"),
        *_start_steps(plan, found, control),
    ]


def systemctl(is_system: bool) -> tuple[str, ...]:
    """The beginning of a command to systemd."""
    return ("systemctl",) if is_system else ("systemctl", "--user")


def journal(is_system: bool, *options: str) -> tuple[str, ...]:
    """The command that shows what the service has logged."""
    unit = "--unit" if is_system else "--user-unit"
    return ("journalctl", unit, f"{NAME}.service", "--output=cat", "--no-pager", *options)


def _user_steps(plan: ServicePlan, layout: ServiceLayout) -> list[Step]:
    if not (plan.is_system and layout.sysusers):
        return []
    create = ("systemd-sysusers", str(layout.sysusers))
    return [
        WriteFile(layout.sysusers, render_sysusers(plan.groups)),
        CommandStep(create, f"the user {NAME} is there"),
    ]


def _drop_socket(
    plan: ServicePlan, layout: ServiceLayout, found: Found, control: tuple[str, ...]
) -> list[Step]:
    """An earlier installation had a socket, and this one has none."""
    if plan.has_socket or not found.has_socket or not layout.socket:
        return []
    off = (*control, "disable", "--now", f"{NAME}.socket")
    return [CommandStep(off, "the socket is closed", may_fail=True), RemoveFile(layout.socket)]


def _start_steps(plan: ServicePlan, found: Found, control: tuple[str, ...]) -> list[Step]:
    """Enabled, and started anew. A socket that stays as it is is not closed meanwhile."""
    units = [f"{NAME}.service", *([f"{NAME}.socket"] if plan.has_socket else [])]
    undo = () if found.is_installed else (*control, "disable", "--now", *units)
    steps: list[Step] = [
        CommandStep((*control, "enable", "--quiet", *units), "it starts by itself", undo)
    ]
    stays = found.is_socket_active and found.socket_text == render_socket(plan)
    if plan.has_socket and not stays:
        stop = (*control, "stop", *units)
        listen = (*control, "start", f"{NAME}.socket")
        steps.append(CommandStep(stop, "an earlier one is stopped", may_fail=True))
        steps.append(CommandStep(listen, f"systemd listens on {plan.address}"))
    restart = (*control, "restart", f"{NAME}.service")
    log = journal(plan.is_system, "-n", "20")
    return [*steps, CommandStep(restart, f"Outrider serves on {plan.address}", log=log)]


def plan_systemd_removal(layout: ServiceLayout, *, is_system: bool, has_socket: bool) -> list[Step]:
    """The steps that remove a service; models and settings stay."""
    control = systemctl(is_system)
    units = [*([f"{NAME}.socket"] if has_socket else []), f"{NAME}.service"]
    files = [path for path in (layout.unit, layout.socket, layout.sysusers) if path]
    off = (*control, "disable", "--now", "--quiet", *units)
    forget = (*control, "reset-failed", *units)
    return [
        CommandStep(off, "it is stopped, and starts no more", may_fail=True),
        *(RemoveFile(path) for path in files),
        CommandStep((*control, "daemon-reload"), "systemd has forgotten the units"),
        CommandStep(forget, "", may_fail=True),
    ]


def plan_launchd(plan: ServicePlan, layout: ServiceLayout, domain: str) -> list[Step]:
    """The steps that install a service under launchd; `domain`: "system" or "gui/<uid>"."""
    target, path = f"{domain}/{LABEL}", str(layout.unit)
    return [
        # The property list holds the settings, which may be keys.
        WriteFile(layout.unit, render_plist(plan, layout), SECRET),
        CommandStep(("launchctl", "bootout", target), "an earlier one is stopped", may_fail=True),
        CommandStep(
            ("launchctl", "bootstrap", domain, path),
            f"Outrider serves on {plan.address}, now and after each start of this machine",
            ("launchctl", "bootout", target),
        ),
    ]


def plan_launchd_removal(layout: ServiceLayout, domain: str) -> list[Step]:
    """The steps that remove a service from launchd."""
    off = ("launchctl", "bootout", f"{domain}/{LABEL}")
    return [
        CommandStep(off, "it is stopped, and starts no more", may_fail=True),
        RemoveFile(layout.unit),
    ]
