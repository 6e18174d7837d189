"""How are all facts about this machine gathered, for `outrider doctor` and for the daemon's log?"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from .facts import AddressUse, Finding, MachineFacts
from .gpu_checks import check_gpus
from .graphics import read_graphics
from .llama_build import read_build, read_llama
from .machine_facts import is_container, read_installation, read_memory, read_processor
from .models_folder import read_folder
from .sandbox_checks import check_sandbox, read_sandbox_gaps

ROOT = Path("/")


def survey(models: Path, address: AddressUse, environment: Mapping[str, str]) -> MachineFacts:
    """Everything; takes seconds, as the disk is measured and llama.cpp started."""
    return MachineFacts(
        system=sys.platform,
        is_container=is_container(ROOT),
        processor=read_processor(ROOT),
        memory=read_memory(ROOT),
        graphics=read_graphics(ROOT, sys.platform),
        llama=read_llama(),
        models=read_folder(models),
        address=address,
        installation=read_installation(environment),
        sandbox_gaps=read_sandbox_gaps(),
    )


def find_unused_gpus(environment: Mapping[str, str]) -> list[Finding]:
    """GPUs that are there, but not used for a reason that is known without starting llama.cpp.

    Takes milliseconds. Integrated GPUs are left out: the CPU is often as fast.
    """
    graphics = read_graphics(ROOT, sys.platform)
    if not graphics.cards:
        return []
    facts = MachineFacts(
        system=sys.platform,
        is_container=is_container(ROOT),
        graphics=graphics,
        llama=read_build(),
        installation=read_installation(environment),
    )
    return [finding for finding in check_gpus(facts) if finding.is_problem]


def find_sandbox_gaps() -> list[Finding]:
    """What the system cannot refuse to runners; takes microseconds."""
    return list(check_sandbox(MachineFacts(sys.platform, sandbox_gaps=read_sandbox_gaps())))
