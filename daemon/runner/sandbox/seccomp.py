"""Which system calls does the kernel refuse to this process? (seccomp, see seccomp(2))

A refused call fails with EPERM, so that a library that can do without it goes on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .syscalls import REFUSED, SYSCALLS

# linux/seccomp.h
SET_MODE_FILTER = 1
SYNC_THREADS = 1  # SECCOMP_FILTER_FLAG_TSYNC: threads that are running get the filter, too
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO, plus the errno
# Offsets in struct seccomp_data. Of an argument, a long, the low half of a little-endian machine.
AT_NUMBER, AT_ARCHITECTURE, AT_ARGUMENTS = 0, 4, 16
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
X32_BIT = 0x40000000  # of the numbers of x86_64's second set of system calls
# linux/bpf_common.h
LOAD, AND, RETURN = 0x20, 0x54, 0x06  # a word of seccomp_data; with a constant; a constant
IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT = 0x15, 0x35, 0x45
# linux/socket.h and linux/sched.h
AF_UNIX, SOCK_STREAM, TYPE_MASK = 1, 1, 0xF
NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, -CGROUP, -UTS, -IPC, -USER, -PID and -NET
CLONE_THREAD = 0x00010000
TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: type into the terminal of the daemon


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of the classic BPF machine; jumps count from the next instruction."""

    code: int
    operand: int
    if_true: int = 0
    if_false: int = 0


Program = list[Instruction]
PERMIT, FORBID = Instruction(RETURN, ALLOW), Instruction(RETURN, REFUSE | errno.EPERM)
UNKNOWN = Instruction(RETURN, REFUSE | errno.ENOSYS)  # what a kernel without the call answers


def runner_filter(machine: str) -> Program:
    """The filter of a runner on a machine such as "x86_64": no network, and nothing that changes
    the system or other processes. Calls of any other architecture are refused.

    Sockets are those of the UNIX family, connected pairs: a datagram could be sent to any address.
    """
    local_stream = (
        *(_argument(0), Instruction(IF_EQUAL, AF_UNIX, 0, 3)),
        *(_argument(1), Instruction(AND, TYPE_MASK)),
        *(Instruction(IF_EQUAL, SOCK_STREAM, 1, 0), FORBID, PERMIT),
    )
    bodies: dict[str, Sequence[Instruction]] = {
        "socket": local_stream,
        "socketpair": local_stream,
        "clone": (_argument(0), Instruction(IF_ANY_BIT, NEW_NAMESPACES, 0, 1), FORBID, PERMIT),
        # Its flags are in memory, which a filter cannot read; the C library then uses clone.
        "clone3": (UNKNOWN,),
        "ioctl": (
            _argument(1),
            *(Instruction(IF_EQUAL, TERMINAL_INPUT[0], 1, 0),),
            *(Instruction(IF_EQUAL, TERMINAL_INPUT[1], 0, 1), FORBID, PERMIT),
        ),
    }
    return _assemble(machine, {**dict.fromkeys(REFUSED, (FORBID,)), **bodies})


def renderer_filter(machine: str) -> Program:
    """What a rendering process gives up beyond that: it starts no process and no program."""
    thread = (_argument(0), Instruction(IF_ANY_BIT, CLONE_THREAD, 1, 0), FORBID, PERMIT)
    names = ("execve", "execveat", "fork", "vfork", "kill", "pidfd_send_signal", "tkill")
    return _assemble(machine, {**dict.fromkeys(names, (FORBID,)), "clone": thread})


def can_filter(machine: str) -> bool:
    """Whether filters are known for this machine."""
    return sys.platform == "linux" and machine in AUDIT_ARCH


def install(program: Iterable[Instruction], machine: str | None = None) -> None:
    """Let the kernel check every system call from now on, of all threads. Raises OSError."""
    packed = [struct.pack("HBBI", i.code, i.if_true, i.if_false, i.operand) for i in program]
    code = ctypes.create_string_buffer(b"".join(packed))
    filter_ = _FilterProgram(len(packed), ctypes.addressof(code))
    number = ctypes.c_long(SYS_SECCOMP[machine or platform.machine()])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, SET_MODE_FILTER, SYNC_THREADS, ctypes.byref(filter_)):
        failure = ctypes.get_errno()
        raise OSError(failure, os.strerror(failure))


class _FilterProgram(ctypes.Structure):
    """sock_fprog."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _assemble(machine: str, bodies: Mapping[str, Sequence[Instruction]]) -> Program:
    """A program that runs the body of the call, if it has one; calls that this architecture lacks
    are left out."""
    numbers = SYSCALLS[machine]
    program = [
        Instruction(LOAD, AT_ARCHITECTURE),
        Instruction(IF_EQUAL, AUDIT_ARCH[machine], 1, 0),
        UNKNOWN,
        Instruction(LOAD, AT_NUMBER),
    ]
    if machine == "x86_64":
        program += (Instruction(IF_AT_LEAST, X32_BIT, 0, 1), UNKNOWN)
    for name, body in bodies.items():
        if name in numbers:
            program += (Instruction(IF_EQUAL, numbers[name], 0, len(body)), *body)
    return [*program, PERMIT]


def _argument(index: int) -> Instruction:
    return Instruction(LOAD, AT_ARGUMENTS + 8 * index)
