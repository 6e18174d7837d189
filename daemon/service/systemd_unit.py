"""How do the units for systemd read (systemd.service(5), systemd.socket(5), systemd.exec(5))?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from .layout import CACHE, NAME, STATE, ServiceLayout, ServicePlan

Section = Sequence[str]
HEAD = (
    "# Written by `outrider service install`; a drop-in (systemctl edit) outlives the next one.\n"
)
DESCRIPTION = "Outrider, a local LLM daemon that speaks the Ollama API"
WATCHDOG_S = 90  # without a sign of life; a busy machine delays one for seconds
STOP_MARGIN_S = 30  # beyond the time to drain: to close connections and end the runners
BACKLOG = 4096  # connections that wait in the socket while the daemon restarts
# What ProtectHome=tmpfs and PrivateTmp hide.
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")

# GPUs: NVIDIA's driver, the drivers of the kernel (AMD, Intel), AMD's compute device, and WSL.
DEVICES = (
    *("char-nvidiactl", "char-nvidia", "char-nvidia-frontend", "char-nvidia-uvm"),
    *("char-nvidia-caps", "char-drm", "char-kfd", "/dev/dxg"),
)
# What is safe in any service: none of it needs privileges, so that a user's service has it, too.
UNPRIVILEGED = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    # @system-service has @resources: threads are bound to cores.
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    # A runner gives up further rights by itself. systemd's name for these, @sandbox, is too new.
    "SystemCallFilter=seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    "SystemCallErrorNumber=EPERM",
)
PRIVILEGED = (
    "ProtectSystem=strict",
    "ProtectProc=invisible",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "RemoveIPC=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "UMask=0027",
    # The devices of GPUs stay visible, and no others can be opened.
    "PrivateDevices=no",
    "DevicePolicy=closed",
    *(f"DeviceAllow={device} rw" for device in DEVICES),
)


def render_service(plan: ServicePlan, layout: ServiceLayout) -> str:
    """The text of outrider.service."""
    return HEAD + _join(
        ("Unit", _unit(plan)),
        ("Service", (*_process(plan), *_settings(plan, layout), *_life(plan), *_rights(plan))),
        ("Install", (f"WantedBy={'multi-user' if plan.is_system else 'default'}.target",)),
    )


def render_socket(plan: ServicePlan) -> str:
    """The text of outrider.socket, in which connections wait while the daemon restarts."""
    host, _, port = plan.address.rpartition(":")
    listen = port if host == "" else plan.address
    return HEAD + _join(
        ("Unit", (f"Description=Socket of {NAME}",)),
        ("Socket", (f"ListenStream={listen}", f"Backlog={BACKLOG}", "NoDelay=yes")),
        ("Install", ("WantedBy=sockets.target",)),
    )


def render_sysusers(groups: Iterable[str]) -> str:
    """Declares the user of the service, a member of the groups that own GPUs (sysusers.d(5))."""
    lines = [f'u {NAME} - "{DESCRIPTION}" {STATE}', *(f"m {NAME} {group}" for group in groups)]
    return "".join(f"{line}\n" for line in lines)


def _unit(plan: ServicePlan) -> Section:
    network = ("Wants=network-online.target", "After=network-online.target")
    socket = (f"Requires={NAME}.socket", f"After={NAME}.socket")
    return (
        f"Description={DESCRIPTION}",
        *(network if plan.is_system else ()),
        *(socket if plan.has_socket else ()),
        # Five failures within five minutes end the attempts: a crash loop helps nobody.
        "StartLimitIntervalSec=300",
        "StartLimitBurst=5",
    )


def _process(plan: ServicePlan) -> Section:
    modprobe = plan.nvidia_modprobe
    return (
        "Type=notify",
        "NotifyAccess=main",
        # The service may not load kernel modules; this runs with all rights, and may fail.
        *((f"ExecStartPre=-+{modprobe} -u -c=0",) if modprobe and plan.is_system else ()),
        f"ExecStart={_quote(plan.python)} -m outrider.daemon serve",
        "ExecReload=kill -HUP $MAINPID",
    )


def _settings(plan: ServicePlan, layout: ServiceLayout) -> Section:
    assert layout.settings
    system = (
        f"Environment=HOME={STATE} XDG_CACHE_HOME={CACHE}",
        f"Environment=OUTRIDER_MODELS={STATE}/models",
    )
    return (
        *(system if plan.is_system else ()),
        f"Environment={_quote(f'OUTRIDER_SETTINGS_FILE={layout.settings}')}",
        # Wins over the lines above; it is read again by `systemctl reload`.
        f"EnvironmentFile=-{str(layout.settings).replace('%', '%%')}",
    )


def _life(plan: ServicePlan) -> Section:
    drain_s = plan.drain_s if math.isfinite(plan.drain_s) else 0  # the daemon asks for more
    return (
        "Restart=on-failure",
        "RestartSec=2",
        f"WatchdogSec={WATCHDOG_S}",
        "TimeoutStartSec=infinity",
        f"TimeoutStopSec={math.ceil(drain_s) + STOP_MARGIN_S}",
        "TimeoutAbortSec=10",
        # The daemon ends its runners itself; what is left after the timeout is killed.
        "KillMode=mixed",
        # A runner that the kernel kills for its memory takes neither the daemon nor others along.
        "OOMPolicy=continue",
    )


def _rights(plan: ServicePlan) -> Section:
    if not plan.is_system:
        return UNPRIVILEGED
    groups = " ".join(plan.groups)
    return (
        f"User={NAME}",
        f"Group={NAME}",
        *((f"SupplementaryGroups={groups}",) if groups else ()),
        f"StateDirectory={NAME}",
        "StateDirectoryMode=0750",
        f"CacheDirectory={NAME}",
        "CacheDirectoryMode=0750",
        f"WorkingDirectory={STATE}",
        *_paths(plan),
        *UNPRIVILEGED,
        *PRIVILEGED,
    )


def _paths(plan: ServicePlan) -> Section:
    """Home and temporary folders are hidden, but for the folders that the service needs."""
    code = [path for path in plan.prefixes if _is_hidden(path)]
    models = plan.models
    bound = models and _is_hidden(models)
    return (
        "ProtectHome=tmpfs",
        *(f"BindReadOnlyPaths={_quote_bound(path)}" for path in code),
        *((f"BindPaths={_quote_bound(models)}",) if models and bound else ()),
        *((f"ReadWritePaths={_quote(models)}",) if models else ()),
    )


def _is_hidden(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in HIDDEN)


def _quote_bound(path: Path) -> str:
    """A path to mount: a colon would end it, and backslashes are for colons only."""
    escaped = str(path).replace("%", "%%").replace(":", "\\:")
    return f'"{escaped}"' if " " in escaped else escaped


def _quote(text: object) -> str:
    """A value without specifiers, which begin with %, that blanks do not end."""
    plain = str(text).replace("%", "%%")
    if not any(char in plain for char in " \"'\\"):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _join(*sections: tuple[str, Section]) -> str:
    texts = [f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections]
    return "\n" + "\n".join(texts)
