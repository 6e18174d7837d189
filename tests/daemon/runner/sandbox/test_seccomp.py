"""What the filters answer to system calls, on both architectures: by a small BPF machine."""

from __future__ import annotations

import errno

import pytest
from outrider.daemon.runner.sandbox.seccomp import (
    ALLOW,
    AND,
    AUDIT_ARCH,
    IF_ANY_BIT,
    IF_AT_LEAST,
    IF_EQUAL,
    LOAD,
    REFUSE,
    RETURN,
    X32_BIT,
    Program,
    can_filter,
    renderer_filter,
    runner_filter,
)
from outrider.daemon.runner.sandbox.syscalls import REFUSED, SYSCALLS

pytestmark = pytest.mark.unit

EPERM, ENOSYS = REFUSE | errno.EPERM, REFUSE | errno.ENOSYS
MACHINES = pytest.mark.parametrize("machine", AUDIT_ARCH)
READ = {"x86_64": 0, "aarch64": 63}  # read(2), which nothing refuses
AF_INET, AF_UNIX, AF_NETLINK = 2, 1, 16
STREAM, DATAGRAM, CLOEXEC = 1, 2, 0o2000000
CLONE_OF_THREAD, CLONE_OF_PROCESS = 0x3D0F00, 17


def answer(
    program: Program, machine: str, number: int, *arguments: int, architecture: int = 0
) -> int:
    """What a filter returns for a call; raises if it jumps out of the program."""
    words = {0: number, 4: architecture or AUDIT_ARCH[machine]}
    words |= {16 + 8 * i: value & 0xFFFFFFFF for i, value in enumerate(arguments)}
    at, register = 0, 0
    while True:
        step = program[at]
        at += 1
        if step.code == LOAD:
            register = words.get(step.operand, 0)
        elif step.code == AND:
            register &= step.operand
        elif step.code == RETURN:
            return step.operand
        else:
            holds = {
                IF_EQUAL: register == step.operand,
                IF_AT_LEAST: register >= step.operand,
                IF_ANY_BIT: bool(register & step.operand),
            }[step.code]
            at += step.if_true if holds else step.if_false


def named(program: Program, machine: str, name: str, *arguments: int) -> int:
    return answer(program, machine, SYSCALLS[machine][name], *arguments)


@MACHINES
def test_what_is_refused_is_refused_and_the_rest_is_not(machine: str) -> None:
    program = runner_filter(machine)
    numbers = SYSCALLS[machine]
    assert {answer(program, machine, numbers[name]) for name in REFUSED if name in numbers} == {
        EPERM
    }
    assert answer(program, machine, READ[machine]) == ALLOW
    for name in ("execve", "kill"):  # the rendering processes; Landlock says which
        assert named(program, machine, name) == ALLOW


@MACHINES
def test_sockets_are_local_connected_pairs(machine: str) -> None:
    program = runner_filter(machine)
    for name in ("socket", "socketpair"):
        assert named(program, machine, name, AF_UNIX, STREAM) == ALLOW
        assert named(program, machine, name, AF_UNIX, STREAM | CLOEXEC) == ALLOW
        assert named(program, machine, name, AF_UNIX, DATAGRAM) == EPERM
        for family in (0, AF_INET, 10, AF_NETLINK, 17, 38):
            assert named(program, machine, name, family, STREAM) == EPERM


@MACHINES
def test_threads_and_children_but_no_namespaces(machine: str) -> None:
    program = runner_filter(machine)
    assert named(program, machine, "clone", CLONE_OF_THREAD) == ALLOW
    assert named(program, machine, "clone", CLONE_OF_PROCESS) == ALLOW
    for bit in (17, 25, 26, 27, 28, 29, 30):
        assert named(program, machine, "clone", CLONE_OF_PROCESS | 1 << bit) == EPERM
    assert named(program, machine, "clone3") == ENOSYS


@MACHINES
def test_nothing_is_typed_into_a_terminal(machine: str) -> None:
    program = runner_filter(machine)
    assert named(program, machine, "ioctl", 0, 0x5412) == EPERM
    assert named(program, machine, "ioctl", 0, 0x541C) == EPERM
    assert named(program, machine, "ioctl", 0, 0xC0106407) == ALLOW  # of a GPU


@MACHINES
def test_a_rendering_process_starts_nothing(machine: str) -> None:
    program = renderer_filter(machine)
    for name in ("execve", "execveat", "kill"):
        assert named(program, machine, name) == EPERM
    assert named(program, machine, "clone", CLONE_OF_THREAD) == ALLOW
    assert named(program, machine, "clone", CLONE_OF_PROCESS) == EPERM
    assert answer(program, machine, READ[machine]) == ALLOW


@MACHINES
def test_other_architectures_have_no_calls(machine: str) -> None:
    for program in (runner_filter(machine), renderer_filter(machine)):
        assert answer(program, machine, READ[machine], architecture=0x40000003) == ENOSYS
    if machine == "x86_64":
        assert answer(runner_filter(machine), machine, X32_BIT) == ENOSYS


def test_programs_are_short_enough_for_the_kernel() -> None:
    for machine in AUDIT_ARCH:
        program = runner_filter(machine)
        assert len(program) < 4096
        assert all(max(step.if_true, step.if_false) < 256 for step in program)
    assert not can_filter("riscv64")
