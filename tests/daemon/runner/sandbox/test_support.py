"""What is said of systems that cannot refuse everything to runners."""

from __future__ import annotations

import pytest
from outrider.daemon.runner.sandbox.support import SandboxSupport, find_gaps

pytestmark = pytest.mark.unit

FILES, NETWORK = "read and write all files of the user", "use the network"
CALLS, SIGNALS = "make any system call", "end other processes of the user"


@pytest.mark.parametrize(
    ("support", "gaps"),
    [
        (SandboxSupport(landlock_abi=7), ()),
        (SandboxSupport(landlock_abi=6), ()),
        (SandboxSupport(landlock_abi=4), (SIGNALS,)),
        (SandboxSupport(landlock_abi=2), ("truncate files of the user", SIGNALS)),
        (SandboxSupport(landlock_abi=0), (FILES, SIGNALS)),
        (SandboxSupport(landlock_abi=6, has_seccomp=False), (CALLS,)),
        (SandboxSupport(landlock_abi=3, has_seccomp=False), (CALLS, NETWORK, SIGNALS)),
        (SandboxSupport("darwin", "arm64", 0, False), (FILES, NETWORK, SIGNALS)),
    ],
)
def test_gaps(support: SandboxSupport, gaps: tuple[str, ...]) -> None:
    assert find_gaps(support) == gaps
