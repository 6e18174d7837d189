"""What does a service consist of, and where do its files lie?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAME = "outrider"
LABEL = "org.outrider.daemon"  # of the agent in launchd
STATE = Path("/var/lib/outrider")  # systemd creates it for the service of the machine
CACHE = Path("/var/cache/outrider")
DEFAULT_ADDRESS = "127.0.0.1:11434"


@dataclass(frozen=True, slots=True)
class ServiceLayout:
    """The files of a service; a path that is None is not needed."""

    unit: Path  # the service's unit, or launchd's property list
    settings: Path | None
    socket: Path | None = None
    sysusers: Path | None = None  # declares the user that the service runs as
    log: Path | None = None  # where there is no journal


SYSTEM = ServiceLayout(
    unit=Path("/etc/systemd/system/outrider.service"),
    settings=Path("/etc/outrider.env"),
    socket=Path("/etc/systemd/system/outrider.socket"),
    sysusers=Path("/etc/sysusers.d/outrider.conf"),
)


def user_layout(config_home: Path) -> ServiceLayout:
    """The files of a user's service under systemd; `config_home` is ~/.config."""
    units = config_home / "systemd/user"
    return ServiceLayout(
        unit=units / "outrider.service",
        settings=config_home / "outrider/outrider.env",
        socket=units / "outrider.socket",
    )


def mac_layout(home: Path, *, system: bool) -> ServiceLayout:
    """The files of an agent of a user, or of a daemon of the machine, under launchd.

    launchd reads no file of settings: they stand in the property list.
    """
    root, logs = (Path("/"), Path("/var/log")) if system else (home, home / "Library/Logs")
    kind = "LaunchDaemons" if system else "LaunchAgents"
    return ServiceLayout(
        unit=root / "Library" / kind / f"{LABEL}.plist", settings=None, log=logs / f"{NAME}.log"
    )


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What is asked for, and what this machine has."""

    python: Path  # the interpreter that the service runs
    prefixes: tuple[Path, ...]  # folders that the interpreter reads its code from
    is_system: bool
    address: str  # host and port to listen on
    has_socket: bool  # the service manager listens
    settings: Mapping[str, str]  # variables for the file of settings
    models: Path | None = None  # a folder that was chosen; None: the service's own
    groups: tuple[str, ...] = ()  # that own the devices of GPUs, as far as this machine has them
    nvidia_modprobe: Path | None = None  # creates NVIDIA's device files
    home: Path = Path("/")
    drain_s: float = 30.0
