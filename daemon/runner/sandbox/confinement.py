"""How does a process give up all rights that it does not need, as far as this system can?"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ...protocol import Load
from .landlock import READ, PathRule, read_abi, restrict
from .limits import limit_resources
from .paths import python_rules, runner_rules
from .privileges import drop_capabilities, refuse_new_privileges
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
    """Each step by itself: that one is refused, by a container for instance, ends no other."""
    abi = read_abi()
    steps: list[tuple[str, Callable[[], None]]] = []
    if sys.platform == "linux":
        steps.append(("new privileges", refuse_new_privileges))
        steps.append(("capabilities", drop_capabilities))
    if abi:
        steps.append(("files and processes", partial(restrict, rules, abi)))
    if program:
        steps.append(("system calls", partial(install, program)))
    for what, step in steps:
        try:
            step()
        except OSError as error:
            log.warning("rights that are not needed stay, of %s: %s", what, error)
