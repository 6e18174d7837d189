"""How does a process give up all rights that it does not need, as far as this system can?"""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from pathlib import Path

from ...protocol import Load
from .landlock import READ, PathRule, read_abi, restrict
from .limits import limit_resources
from .paths import python_rules, runner_rules
from .privileges import give_up_privileges
from .seccomp import Program, can_filter, install, renderer_filter, runner_filter

# What a rendering process reads beside Python: nothing of other processes, nor of devices.
RENDERER_DEVICES = ("/dev/null", "/dev/urandom")
NOT_FOR_RENDERERS = (Path("/proc"), Path("/sys"))

log = logging.getLogger("outrider.runner")


def confine_runner(load: Load) -> None:
    """Before the first byte of a model is read, and before any library starts a thread.

    What the kernel lacks is left out; `find_gaps` in support.py says what that is.
    """
    limit_resources(load)
    machine = platform.machine()
    program = runner_filter(machine) if can_filter(machine) else []
    _confine(runner_rules(load), program)


def confine_renderer() -> None:
    """The same for a child of a runner, which has less need: it reads Python's files alone."""
    machine = platform.machine()
    rules = [rule for rule in python_rules() if rule.path not in NOT_FOR_RENDERERS]
    rules += (PathRule(Path(device), READ) for device in RENDERER_DEVICES)
    _confine(rules, renderer_filter(machine) if can_filter(machine) else [])


def _confine(rules: Sequence[PathRule], program: Program) -> None:
    abi = read_abi()
    if not (abi or program):
        return
    try:
        give_up_privileges()
        if abi:
            restrict(rules, abi)
        if program:
            install(program)
    except OSError as error:
        log.warning("this process keeps rights that it does not need: %s", error)
