"""What could a runner do on this machine although it need not?"""

from __future__ import annotations

from collections.abc import Iterator

from ..runner.sandbox.support import find_gaps, read_support
from .facts import Finding, MachineFacts

ON_LINUX = (
    "use Linux 6.12 or newer with Landlock: lsm=landlock,... among the parameters of the kernel"
)
ELSEWHERE = "on Linux the kernel would refuse it; here load only models of people whom you trust"


def read_sandbox_gaps() -> tuple[str, ...]:
    """In words, such as "use the network"."""
    return find_gaps(read_support())


def check_sandbox(facts: MachineFacts) -> Iterator[Finding]:
    """A note, for all of it works."""
    if gaps := facts.sandbox_gaps:
        *most, last = gaps
        what = f"{', '.join(most)} or {last}" if most else last
        text = f"a runner that a model has taken over could {what}"
        yield Finding(text, ON_LINUX if facts.system == "linux" else ELSEWHERE, is_problem=False)
