"""What does this machine have that a service needs, and what is in its way?"""

from __future__ import annotations

import errno
import grp
import http.client
import os
import shutil
import socket
import sys
from pathlib import Path

from .layout import NAME

BOOTED = Path("/run/systemd/system")  # is there if systemd runs the machine (sd_booted(3))
CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv"))
GPU_GROUPS = ("render", "video")
ASK_S = 2.0  # for the answer of whoever has the port
FOR_WSL = (
    "WSL runs without systemd here: write [boot] and systemd=true into /etc/wsl.conf, "
    "run `wsl --shutdown`, and try again"
)
FOR_CONTAINERS = "this container has no systemd: make `outrider serve` its command instead"
FOR_OTHERS = (
    "this machine is not run by systemd: let its own service manager start `outrider serve`"
)


def why_no_systemd(root: Path = Path("/")) -> str:
    """What to do on a machine without systemd; empty if it has one. `root`: of its files."""
    if _below(root, BOOTED).is_dir():
        return ""
    version = _below(root, Path("/proc/version"))
    if version.exists() and "microsoft" in version.read_text().lower():
        return FOR_WSL
    is_container = any(_below(root, path).exists() for path in CONTAINERS)
    return FOR_CONTAINERS if is_container else FOR_OTHERS


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def why_no_rights(*, is_system: bool, uid: int, environ: dict[str, str]) -> str:
    """Why this user cannot install such a service; empty if nothing speaks against it."""
    if is_system and uid != 0:
        return (
            "a service of the machine needs root: try again with `sudo "
            f"{Path(sys.argv[0]).absolute()} service ...`, or with --user"
        )
    if not is_system and sys.platform == "linux" and "XDG_RUNTIME_DIR" not in environ:
        return (
            "there is no session of this user that systemd knows of (XDG_RUNTIME_DIR is not set): "
            "log in as the user, without su or sudo, or use --system"
        )
    return ""


def find_groups() -> tuple[str, ...]:
    """The groups that own the device files of GPUs, as far as this machine has them."""
    known = {entry.gr_name for entry in grp.getgrall()}
    return tuple(name for name in GPU_GROUPS if name in known)


def find_modprobe() -> Path | None:
    """The program that creates NVIDIA's device files; CUDA calls it, and a service may not."""
    found = shutil.which("nvidia-modprobe", path=f"{os.defpath}:/usr/sbin:/sbin")
    return Path(found) if found else None


def find_prefixes() -> tuple[Path, ...]:
    """The folders that this interpreter, its libraries and this package are read from."""
    interpreter = Path(sys.executable).resolve()
    package = Path(__file__).resolve().parents[2]
    # `python -m` puts the current folder into the path, which says nothing.
    libraries = {Path(entry) for entry in sys.path if Path(entry).is_dir()} - {Path.cwd()}
    folders = {
        *(Path(sys.prefix), Path(sys.base_prefix), Path(sys.base_prefix).resolve()),
        *(interpreter.parents[1], package, *libraries),
    }
    return outermost(folders)


def outermost(folders: set[Path]) -> tuple[Path, ...]:
    """The folders that lie in no other one, in order."""
    inner = {path for path in folders if any(parent in folders for parent in path.parents)}
    return tuple(sorted(folders - inner))


def who_listens(host: str, port: int) -> str:
    """Who has the address, such as "Ollama"; empty if it is free, or cannot be had at all."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return _ask(host, port)
    return ""


def _ask(host: str, port: int) -> str:
    asked = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
    connection = http.client.HTTPConnection(asked, port, timeout=ASK_S)
    try:
        connection.request("GET", "/api/version")
        answer = connection.getresponse()
        if answer.headers.get("Outrider-Version"):
            return NAME.capitalize()
        return "Ollama" if b'"version"' in answer.read(1000) else "another program"
    except (OSError, http.client.HTTPException):
        return "another program"
    finally:
        connection.close()
