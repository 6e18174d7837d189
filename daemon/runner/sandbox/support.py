"""What can this system refuse to runners, and what not?"""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import dataclass

from .landlock import NETWORK_ABI, SCOPE_ABI, read_abi
from .seccomp import SYS_SECCOMP, can_filter

GET_ACTION_AVAIL = 2  # SECCOMP_GET_ACTION_AVAIL: asks, and changes nothing (Linux 4.14)
ERRNO_ACTION = 0x00050000
FILES_ABI = 3  # since then a file cannot be truncated either


@dataclass(frozen=True, slots=True)
class SandboxSupport:
    """What the kernel has."""

    system: str = "linux"  # sys.platform
    machine: str = "x86_64"
    landlock_abi: int = SCOPE_ABI  # 0: none
    has_seccomp: bool = True


def read_support() -> SandboxSupport:
    """Of this kernel; changes nothing."""
    machine = platform.machine()
    return SandboxSupport(sys.platform, machine, read_abi(), _has_seccomp(machine))


def find_gaps(support: SandboxSupport) -> tuple[str, ...]:
    """What runners could do here although they need not, in words."""
    gaps = []
    if not support.landlock_abi:
        gaps.append("read and write all files of the user")
    elif support.landlock_abi < FILES_ABI:
        gaps.append("truncate files of the user")
    if not support.has_seccomp:
        if support.system == "linux":
            gaps.append("make any system call")
        if support.landlock_abi < NETWORK_ABI:
            gaps.append("use the network")
    if support.landlock_abi < SCOPE_ABI:
        gaps.append("end other processes of the user")
    return tuple(gaps)


def _has_seccomp(machine: str) -> bool:
    if not can_filter(machine):
        return False
    action = ctypes.c_uint32(ERRNO_ACTION)
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long(SYS_SECCOMP[machine])
    return int(libc.syscall(number, GET_ACTION_AVAIL, 0, ctypes.byref(action))) == 0
