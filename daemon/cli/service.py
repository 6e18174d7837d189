"""`service`: how is the daemon installed as a service, looked at, and removed?"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from ..config import OLLAMAS, OURS, Settings
from ..errors import ConfigError
from ..service import host as machine
from ..service.installation import (
    CommandStep,
    Found,
    Step,
    journal,
    plan_launchd,
    plan_launchd_removal,
    plan_systemd,
    plan_systemd_removal,
    systemctl,
)
from ..service.layout import (
    LABEL,
    NAME,
    STATE,
    SYSTEM,
    ServiceLayout,
    ServicePlan,
    mac_layout,
    user_layout,
)
from ..service.steps import ServiceFailed, carry_out, run

NOT_KEPT = {f"{OURS}SETTINGS_FILE"}  # variables that are no settings of a service
LINGER = "it runs while you are logged in; from boot on: loginctl enable-linger {user}"
SHOWN = ("ActiveState", "SubState", "StatusText", "MainPID", "NRestarts", "Result")
SOCKET_HELP = "Let systemd listen: no connection is refused while Outrider restarts."
FIRST_COLUMN = 10  # characters

Command = Callable[..., None]


def _scope(command: Command) -> Command:
    """The options --user and --system; the default depends on who asks."""
    told = "Of this user, or of the whole machine.  [default: --system for root]"
    return click.option("--system/--user", "is_system", default=None, help=told)(command)


@dataclass(frozen=True, slots=True)
class ServiceScope:
    """Whose service it is, and where its files are."""

    is_system: bool
    layout: ServiceLayout
    is_mac: bool

    @classmethod
    def choose(cls, is_system: bool | None) -> ServiceScope:
        """By the option, or by who asks. Raises ServiceFailed where there can be no service."""
        system = os.geteuid() == 0 if is_system is None else is_system
        if sys.platform == "darwin":
            return cls(system, mac_layout(Path.home(), system=system), True)
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        scope = cls(system, SYSTEM if system else user_layout(config), False)
        if why := machine.why_no_systemd():
            raise ServiceFailed(why)
        return scope

    def check_rights(self) -> None:
        """Raises ServiceFailed if this user may not change the service."""
        why = machine.why_no_rights(
            is_system=self.is_system, uid=os.geteuid(), environ=dict(os.environ)
        )
        if why:
            raise ServiceFailed(why)

    @property
    def domain(self) -> str:
        """launchd's name for where the service lives."""
        return "system" if self.is_system else f"gui/{os.getuid()}"

    @property
    def is_installed(self) -> bool:
        return self.layout.unit.exists()

    def found(self) -> Found:
        """What of a systemd service is there already."""
        socket, settings = self.layout.socket, self.layout.settings
        socket_text = socket.read_text("utf-8") if socket and socket.exists() else ""
        active = run(*systemctl(self.is_system), "is-active", f"{NAME}.socket").returncode == 0
        text = settings.read_text("utf-8") if settings and settings.exists() else ""
        return Found(self.is_installed, bool(socket_text), active, socket_text, text)


@click.group()
def service() -> None:
    """Run the daemon as a service of systemd or launchd."""


@service.command()
@_scope
@click.option("--socket", "has_socket", is_flag=True, help=SOCKET_HELP)
@click.option("--port", type=int, help="Port to listen on.  [default: 11434]")
def install(is_system: bool | None, has_socket: bool, port: int | None) -> None:
    """Install the service for this interpreter, and start it.

    Variables OUTRIDER_* and OLLAMA_* that are set now become its settings.
    """
    scope = ServiceScope.choose(is_system)
    scope.check_rights()
    plan = _plan(scope, has_socket and not scope.is_mac, port)
    _check_port(plan, scope)
    carry_out(_install_steps(plan, scope), click.echo)
    _tell_next(plan, scope)


def _install_steps(plan: ServicePlan, scope: ServiceScope) -> list[Step]:
    try:
        if scope.is_mac:
            return plan_launchd(plan, scope.layout, scope.domain)
        return plan_systemd(plan, scope.layout, scope.found())
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _plan(scope: ServiceScope, has_socket: bool, port: int | None) -> ServicePlan:
    settings = Settings.load(port=port)
    address = f"[{settings.host}]" if ":" in settings.host else settings.host
    variables = _variables(settings, has_port=port is not None)
    chosen = any(name.endswith("_MODELS") for name in variables)
    if chosen and not settings.models.is_dir():
        raise ServiceFailed(f"there is no folder {settings.models}: create it for the models first")
    return ServicePlan(
        python=Path(sys.executable).absolute(),
        prefixes=machine.find_prefixes(),
        is_system=scope.is_system,
        address=f"{address}:{settings.port}",
        has_socket=has_socket,
        settings=variables,
        models=settings.models if chosen and scope.is_system else None,
        groups=() if scope.is_mac else machine.find_groups(),
        nvidia_modprobe=machine.find_modprobe(),
        home=Path.home(),
        drain_s=settings.drain_timeout_s,
    )


def _variables(settings: Settings, *, has_port: bool) -> dict[str, str]:
    """The settings in the environment, with whole paths, and the port of the command line."""
    prefixes = (OURS, OLLAMAS)
    found = {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(prefixes) and name not in NOT_KEPT and value
    }
    for name in [name for name in found if name.endswith("_MODELS")]:
        # The unit names the folder by this variable, which has to be the one that wins.
        del found[name]
        found[f"{OURS}MODELS"] = str(settings.models)
    for name in [name for name in found if name.endswith("_DRAFT")]:
        found[name] = str(settings.draft)
    if has_port:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        found[f"{OURS}HOST"] = f"{host}:{settings.port}"
    return found


def _check_port(plan: ServicePlan, scope: ServiceScope) -> None:
    """Raises ServiceFailed if another program has the port. An installed service may have it."""
    host, _, port = plan.address.rpartition(":")
    holder = machine.who_listens(host.strip("[]"), int(port))
    if holder and not (scope.is_installed and holder == NAME.capitalize()):
        stop = "stop it (systemctl stop ollama), or " if holder == "Ollama" else ""
        raise ServiceFailed(f"{plan.address} is taken by {holder}: {stop}choose --port")


def _tell_next(plan: ServicePlan, scope: ServiceScope) -> None:
    flag = "--system" if scope.is_system else "--user"
    if plan.settings:
        click.echo(f"settings from the environment: {', '.join(plan.settings)}")
    if plan.models:
        click.echo(f"the user {NAME} has to be able to read and write {plan.models}")
    if not scope.is_system and not scope.is_mac:
        click.echo(LINGER.format(user=os.environ.get("USER", "")).rstrip())
    click.echo(f"to remove it: outrider service uninstall {flag}")


@service.command()
@_scope
def uninstall(is_system: bool | None) -> None:
    """Stop the service and remove it; models and settings stay."""
    scope = ServiceScope.choose(is_system)
    scope.check_rights()
    if not scope.is_installed:
        click.echo(f"there is no service to remove: {scope.layout.unit} does not exist")
        return
    if scope.is_mac:
        steps = plan_launchd_removal(scope.layout, scope.domain)
    else:
        socket = scope.layout.socket
        steps = plan_systemd_removal(
            scope.layout,
            is_system=scope.is_system,
            has_socket=bool(socket and socket.exists()),
        )
    carry_out(steps, click.echo)
    kept = [str(scope.layout.settings)] if scope.layout.settings else []
    kept += [str(STATE)] if scope.is_system and not scope.is_mac else []
    if kept:
        click.echo(f"left as they are: {', '.join(kept)}")


@service.command()
@_scope
def status(is_system: bool | None) -> None:
    """Show whether the service runs, and what it does."""
    scope = ServiceScope.choose(is_system)
    _check_installed(scope)
    if scope.is_mac:
        done = run("launchctl", "print", f"{scope.domain}/{LABEL}")
        click.echo(done.stdout.strip() or "the service is not loaded")
        return
    asked = [f"--property={name}" for name in SHOWN]
    shown = run(*systemctl(scope.is_system), "show", f"{NAME}.service", *asked)
    facts = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    rows = {
        "state": f"{facts.get('ActiveState')} ({facts.get('SubState')})",
        "status": facts.get("StatusText", ""),
        "process": facts.get("MainPID", ""),
        "restarts": facts.get("NRestarts", ""),
        "unit": str(scope.layout.unit),
        "settings": str(scope.layout.settings),
    }
    if facts.get("Result") not in ("success", None):
        rows["result"] = facts["Result"]
    for name, value in rows.items():
        if value:
            click.echo(f"{name:<{FIRST_COLUMN}}{value}")
    if facts.get("ActiveState") != "active":
        raise click.exceptions.Exit(1)


@service.command()
@_scope
@click.option("-n", "--lines", default=50, show_default=True, help="The last so many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
def logs(is_system: bool | None, lines: int, follow: bool) -> None:
    """Show what the service has logged."""
    scope = ServiceScope.choose(is_system)
    _check_installed(scope)
    further = ["-f"] if follow else []
    if scope.is_mac:
        argv = ["tail", "-n", str(lines), *further, str(scope.layout.log)]
    else:
        argv = [*journal(scope.is_system, "-n", str(lines), *further)]
    sys.stdout.flush()
    os.execvp(argv[0], argv)


@service.command("reload")
@_scope
def reload_settings(is_system: bool | None) -> None:
    """Apply the file of settings, as far as that needs no restart; the log says what did."""
    scope = ServiceScope.choose(is_system)
    scope.check_rights()
    _check_installed(scope)
    if scope.is_mac:
        raise ServiceFailed("launchd reads no file of settings: install the service again")
    carry_out(_reload_steps(scope.is_system), click.echo)


def _reload_steps(is_system: bool) -> list[Step]:
    argv = (*systemctl(is_system), "reload", f"{NAME}.service")
    return [CommandStep(argv, "the settings were read again; `outrider service logs` says more")]


def _check_installed(scope: ServiceScope) -> None:
    if not scope.is_installed:
        flag = "--system" if scope.is_system else "--user"
        raise ServiceFailed(f"there is no service; install it: outrider service install {flag}")
