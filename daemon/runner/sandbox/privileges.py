"""Which privileges does a process give up, and with whom does it end?"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# linux/prctl.h
SET_DEATH_SIGNAL, SET_NO_NEW_PRIVILEGES = 1, 38
# linux/capability.h: those that a service which runs as root keeps, to read the models of a user.
# Landlock says which files these are.
KEPT = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 bits


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityWords(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


def end_with_parent() -> None:
    """Have the kernel end this process with its parent, even a stopped one, or one that hangs.

    The parent is the thread that started it, which must live as long as its process.
    """
    if sys.platform == "linux":
        _check(ctypes.CDLL(None, use_errno=True).prctl(SET_DEATH_SIGNAL, int(signal.SIGKILL)))


def refuse_new_privileges() -> None:
    """No program that is started gets more rights than this process (Linux). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0))


def drop_capabilities() -> None:
    """Root's rights are gone but for KEPT; nothing happens if there are no others. Raises OSError,
    as under a service manager that forbids capset(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, words = _CapabilityHeader(CAPABILITY_VERSION, 0), (_CapabilityWords * 2)()
    _check(libc.capget(ctypes.byref(header), words))
    if not (words[0].permitted & ~KEPT or words[1].permitted or words[0].inheritable):
        return
    words[0].effective &= KEPT
    words[0].permitted &= KEPT
    words[0].inheritable = 0
    words[1] = _CapabilityWords()
    _check(libc.capset(ctypes.byref(header), words))


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
