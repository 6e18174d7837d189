"""Which files, ports and processes may this process still reach? (Landlock, see landlock(7))

Only the thread that calls `restrict` gives up its rights, with all that it starts later. So it has
to come before the first library that starts threads, such as numpy's OpenBLAS.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

# The same numbers on every architecture (linux/landlock.h).
SYS_CREATE_RULESET, SYS_ADD_RULE, SYS_RESTRICT_SELF = 444, 445, 446
GET_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION: the result is the version of the interface
PATH_BENEATH = 1  # LANDLOCK_RULE_PATH_BENEATH
NO_PORTS = 0b11  # LANDLOCK_ACCESS_NET_BIND_TCP and LANDLOCK_ACCESS_NET_CONNECT_TCP
NO_OUTSIDERS = 0b11  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and LANDLOCK_SCOPE_SIGNAL
NETWORK_ABI, SCOPE_ABI = 4, 6  # the versions since which these are refused


class FileAccess(IntFlag):
    """LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


LIST = FileAccess.READ_DIR
READ = FileAccess.READ_FILE | FileAccess.READ_DIR
RUN = FileAccess.READ_FILE | FileAccess.EXECUTE
# A device: its data, and the requests (ioctl) to its driver.
USE = READ | FileAccess.WRITE_FILE | FileAccess.IOCTL_DEV
# A folder of one's own: plain files and folders in it, and nothing else.
KEEP = (
    READ
    | FileAccess.WRITE_FILE
    | FileAccess.TRUNCATE
    | FileAccess.MAKE_REG
    | FileAccess.MAKE_DIR
    | FileAccess.REMOVE_FILE
    | FileAccess.REMOVE_DIR
)
# What a rule for something that is no folder may hold.
OF_FILES = (
    FileAccess.EXECUTE
    | FileAccess.WRITE_FILE
    | FileAccess.READ_FILE
    | FileAccess.TRUNCATE
    | FileAccess.IOCTL_DEV
)
NUM_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # rights on files, by version; later ones have 16


@dataclass(frozen=True, slots=True)
class PathRule:
    """What is allowed on a file, or on all that is beneath a folder."""

    path: Path
    access: FileAccess


class _RulesetAttr(ctypes.Structure):
    """landlock_ruleset_attr; older kernels know only the first fields."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    """landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def read_abi() -> int:
    """The version of Landlock in this kernel; 0: it has none, or it is switched off."""
    if sys.platform != "linux":
        return 0
    with suppress(OSError):
        return _call(SYS_CREATE_RULESET, None, ctypes.c_size_t(0), GET_VERSION)
    return 0


def restrict(rules: Iterable[PathRule], abi: int) -> None:
    """Refuse every use of files but these from now on, and what else this version can refuse.

    Paths that do not exist are left out. The process must have given up new privileges. Raises
    OSError.
    """
    handled = (1 << NUM_RIGHTS.get(abi, 16)) - 1
    network, scoped = NO_PORTS * (abi >= NETWORK_ABI), NO_OUTSIDERS * (abi >= SCOPE_ABI)
    attr = _RulesetAttr(handled, network, scoped)
    size = 8 * (1 + (abi >= NETWORK_ABI) + (abi >= SCOPE_ABI))
    ruleset = _call(SYS_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(size), 0)
    try:
        for rule in rules:
            _add(ruleset, rule, handled)
        _call(SYS_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _add(ruleset: int, rule: PathRule, handled: int) -> None:
    try:
        descriptor = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it does not exist, or this user must not reach it anyway
        return
    try:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        access = rule.access & handled & (-1 if is_folder else OF_FILES)
        if access:
            attr = _PathBeneathAttr(access, descriptor)
            _call(SYS_ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(attr), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    """A system call that the C library has no function for. Raises OSError."""
    result = int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
