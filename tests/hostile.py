"""What hostile code inside a runner tries: run as a process that confines itself first.

Arguments: the load as JSON, and the facts of `Attack` as JSON. It prints a JSON object with the
outcome of each try: "done", or the name of the error.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from outrider.daemon.protocol import Load
from outrider.daemon.runner.sandbox.confinement import confine_renderer, confine_runner
from outrider.daemon.runner.sandbox.syscalls import SYSCALLS

Try = Callable[[], object]
UNKNOWN_CALL = 0x40000000 + 39  # getpid of x86_64's second set of system calls
PTRACE_ATTACH = 16
CLONE_NEWUSER = 0x10000000
TIOCSTI = 0x5412


class Attack(msgspec.Struct, frozen=True):
    """What is around the process that it must not reach."""

    port: int  # of a listener on loopback
    unix_socket: str  # path of a listener
    datagrams: str  # path of a socket for datagrams
    home: str  # a folder with a key in it
    key: str
    other_model: str  # of the store, not of this load
    sibling: int  # process id of another child of the parent
    victim: int  # process id of the parent
    as_renderer: bool = False


def call(name: str, *arguments: object) -> object:
    """A system call by its name."""
    number = SYSCALLS[os.uname().machine][name]
    return raw(number, *arguments)


def raw(number: int, *arguments: object) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def write(path: str) -> object:
    return Path(path).write_text("x")


def run(*command: str) -> object:
    return subprocess.run(command, capture_output=True, check=True, timeout=20)


def connect(family: int, address: object) -> object:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        return sock.connect(address)  # type: ignore[arg-type]


def send_datagram(path: str) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        return sock.sendto(b"x", path)


def attempts(load: Load, attack: Attack) -> dict[str, Try]:
    """All that has to be refused."""
    home, other, victim = attack.home, attack.other_model, attack.victim
    folder = Path(load.profile).parent
    return {
        "connect": lambda: connect(socket.AF_INET, ("127.0.0.1", attack.port)),
        "connect IPv6": lambda: connect(socket.AF_INET6, ("::1", attack.port)),
        "connect unix": lambda: connect(socket.AF_UNIX, attack.unix_socket),
        "datagram": lambda: send_datagram(attack.datagrams),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "write in home": lambda: write(f"{home}/x"),
        "write in /tmp": lambda: write("/tmp/outrider-hostile"),
        "write beside profiles": lambda: write(f"{folder.parent}/x"),
        "link out of profiles": lambda: os.symlink(attack.key, folder / "link"),
        "overwrite model": lambda: write(load.model),
        "truncate model": lambda: os.truncate(load.model, 1),
        "unlink model": lambda: os.unlink(load.model),
        "unlink other model": lambda: os.unlink(other),
        "rename model": lambda: os.rename(other, f"{other}.x"),
        "chmod model": lambda: os.chmod(other, 0o777),
        "times of model": lambda: os.utime(other),
        "attribute of model": lambda: os.setxattr(other, "user.x", b"x"),
        "read other model": lambda: Path(other).read_bytes(),
        "list home": lambda: os.listdir(home),
        "read key": lambda: Path(attack.key).read_text(),
        "read /etc/passwd": lambda: Path("/etc/passwd").read_text(),
        "key by root of parent": lambda: Path(f"/proc/{victim}/root{attack.key}").read_text(),
        "environment of parent": lambda: Path(f"/proc/{victim}/environ").read_text(),
        "memory of parent": lambda: Path(f"/proc/{victim}/mem").open("rb").read(1),
        "shell": lambda: run("/bin/sh", "-c", "true"),
        "ptrace": lambda: call("ptrace", PTRACE_ATTACH, victim, 0, 0),
        "process_vm_readv": lambda: call("process_vm_readv", victim, 0, 0, 0, 0, 0),
        "kill sibling": lambda: os.kill(attack.sibling, signal.SIGKILL),
        "kill parent": lambda: os.kill(victim, 0),
        "unshare": lambda: call("unshare", CLONE_NEWUSER),
        "clone into namespace": lambda: call("clone", CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0),
        "mount": lambda: call("mount", b"none", b"/mnt", b"tmpfs", 0, 0),
        "bpf": lambda: call("bpf", 0, 0, 0),
        "perf": lambda: call("perf_event_open", 0, 0, -1, -1, 0),
        "io_uring": lambda: call("io_uring_setup", 1, 0),
        "keyctl": lambda: call("keyctl", 0, 0, 0, 0, 0),
        "module": lambda: call("finit_module", 0, 0, 0),
        "kexec": lambda: call("kexec_load", 0, 0, 0, 0),
        "type into terminal": lambda: call("ioctl", 0, TIOCSTI, b"x"),
        "host name": lambda: socket.sethostname("x"),
        "clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
        "priority": lambda: os.nice(-5),
        "other system calls": lambda: raw(UNKNOWN_CALL),
        "much memory": lambda: mmap.mmap(-1, 8 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
        "large file": lambda: (folder / "large").write_bytes(bytes(300 << 20)),
        "many files": lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(5000)],
    }


def duties(load: Load) -> dict[str, Try]:
    """All that has to work."""
    profile = Path(load.profile)
    return {
        "read model": lambda: Path(load.model).read_bytes(),
        "write profile": lambda: write(f"{profile}.1"),
        "rename profile": lambda: os.rename(f"{profile}.1", profile),
        "read profile": profile.read_text,
        "remove profile": profile.unlink,
        "read processors": lambda: Path("/proc/cpuinfo").read_text(),
        "local pair": socket.socketpair,
        "random": lambda: Path("/dev/urandom").open("rb").read(1),
        "start Python": lambda: run(sys.executable, "-c", "import json, ssl, numpy"),
    }


def renderer_attempts(load: Load) -> dict[str, Try]:
    """What a rendering process must not do beyond that; files it must not write are not large."""
    return {
        "read model": lambda: Path(load.model).read_bytes(),
        "write profile": lambda: write(load.profile),
        "read processes": lambda: Path("/proc/self/status").read_text(),
        "start Python": lambda: run(sys.executable, "-c", ""),
        "fork": os.fork,
        "kill itself": lambda: os.kill(os.getpid(), 0),
    }


def outcome(attempt: Try) -> str:
    """What comes of it, in a word."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except subprocess.SubprocessError as error:
        return f"{type(error).__name__}: {getattr(error, 'stderr', '')!r}"
    return "done"


def main() -> None:
    load = msgspec.json.decode(sys.argv[1], type=Load)
    attack = msgspec.json.decode(sys.argv[2], type=Attack)
    start_s = time.perf_counter()
    confine_runner(load)
    took_s = time.perf_counter() - start_s
    tries = {**duties(load), **attempts(load, attack)}  # the last one uses up all files
    if attack.as_renderer:
        confine_renderer()
        tries = {**renderer_attempts(load), **attempts(load, attack)}
    outcomes = {name: outcome(attempt) for name, attempt in tries.items()}
    print(msgspec.json.encode({"took_s": took_s, "outcomes": outcomes}).decode())


if __name__ == "__main__":
    main()
