"""How do tests boot a real systemd? As process 1 of namespaces, over an overlay of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BOOT_S = 30.0  # until systemd answers
CODE = "/opt/outrider-code"  # the checkout, as the machine sees it
VENV = "/opt/outrider"
NAMESPACES = ("-m", "-p", "-u", "-i", "-C")  # all but network and users
MASKED = ("systemd-udevd", "systemd-networkd", "systemd-resolved", "systemd-timesyncd")

# $1: an empty folder; $2: what /opt/outrider-code holds. The network is that of the tests, so that
# they reach the daemon; all writes go to memory, and are gone afterwards.
BOOT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mkdir -p opt/outrider-code
mount --bind "$2" opt/outrider-code
mount -t proc proc proc
mount --rbind /sys sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
for node in null zero full random urandom tty; do
  touch "dev/$node"
  mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t tmpfs tmpfs dev/shm
ln -s /proc/self/fd dev/fd
for unit in $3; do ln -sf /dev/null "etc/systemd/system/$unit.service"; done
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  chroot . /lib/systemd/systemd --system --unit=basic.target --show-status=0 --log-target=journal
"""


def why_not() -> str:
    """Why systemd cannot be booted here; empty if it may be tried."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "to boot systemd in namespaces needs root on Linux"
    needed = ("unshare", "nsenter", "systemctl", "systemd-sysusers", "journalctl")
    missing = [name for name in needed if not shutil.which(name)]
    if missing or not Path("/lib/systemd/systemd").exists():
        return f"systemd is not installed: {', '.join(missing) or '/lib/systemd/systemd'}"
    return ""


@dataclass(frozen=True)
class SystemdMachine:
    """A booted systemd, and commands in it."""

    pid: int  # of its process 1, as seen from outside

    def run(self, *argv: str, env: dict[str, str] | None = None) -> str:
        """The output of a command that has to succeed."""
        done = self.attempt(*argv, env=env)
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    def attempt(
        self, *argv: str, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        plain = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), *NAMESPACES, "-r", "-w", *argv],
            env={**plain, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def outrider(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """The command of the installed package."""
        return self.attempt(f"{VENV}/bin/python", "-m", "outrider.daemon", *argv, env=env)

    def show(self, name: str, unit: str = "outrider.service") -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def wait(self, name: str, value: str, unit: str = "outrider.service") -> None:
        """Until a property of a unit contains the value."""
        deadline_s = time.monotonic() + BOOT_S
        while value not in self.show(name, unit):
            assert time.monotonic() < deadline_s, self.log()
            time.sleep(0.05)

    def log(self, unit: str = "outrider.service") -> str:
        """What a unit has logged, after its state."""
        state = self.attempt("systemctl", "status", "--no-pager", "-l", unit).stdout
        return state + self.attempt("journalctl", "-u", unit, "--no-pager", "-o", "cat").stdout


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[SystemdMachine]:
    """A machine with this checkout installed in /opt/outrider; `folder` is an empty one.

    Raises RuntimeError if systemd does not come up.
    """
    code = folder / "code"
    for top in ("daemon", "models", "quant"):
        shutil.copytree(
            ROOT / top, code / "outrider" / top, ignore=shutil.ignore_patterns("__pyc*")
        )
    (folder / "root").mkdir()
    script = ("bash", "-c", BOOT, "boot", str(folder / "root"), str(code), " ".join(MASKED))
    unshare = subprocess.Popen(
        ["unshare", "-f", "--kill-child", *NAMESPACES, *script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        machine = _wait_booted(unshare)
        _install(machine)
        yield machine
    finally:
        unshare.kill()  # its child, process 1, goes with it, and so does everything inside
        unshare.communicate()


def _wait_booted(unshare: subprocess.Popen[str]) -> SystemdMachine:
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
    deadline_s = time.monotonic() + BOOT_S
    while time.monotonic() < deadline_s and unshare.poll() is None:
        pids = children.read_text().split()
        if pids and Path(f"/proc/{pids[0]}/comm").read_text().strip() == "systemd":
            machine = SystemdMachine(int(pids[0]))
            state = machine.attempt("systemctl", "is-system-running", "--wait").stdout.strip()
            if state in ("running", "degraded"):
                return machine
        time.sleep(0.05)
    unshare.kill()
    raise RuntimeError(f"systemd does not boot in namespaces here: {unshare.communicate()[0]}")


def _install(machine: SystemdMachine) -> None:
    """A venv as `pip install` would leave it, whose libraries are those of the tests.

    Raises RuntimeError if they lie in a folder that the machine does not see: /tmp, or another file
    system than that of /.
    """
    for path in (sys.executable, sysconfig.get_path("purelib")):
        if machine.attempt("test", "-e", path).returncode:
            raise RuntimeError(f"the booted systemd does not see {path}: put the venv elsewhere")
    machine.run(sys.executable, "-m", "venv", "--without-pip", VENV)
    paths = f"{CODE}\n{sysconfig.get_path('purelib')}\n"
    site = f"{VENV}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    machine.run("sh", "-c", 'printf %s "$1" > "$2"', "sh", paths, f"{site}/tests.pth")
