"""Which units are for packagers, in the folder systemd/? Those of an installation in /opt/outrider.

`python -m outrider.daemon.service.reference FOLDER` writes them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from .layout import DEFAULT_ADDRESS, SYSTEM, ServicePlan, user_layout
from .systemd_unit import render_service, render_socket, render_sysusers

PREFIX = Path("/opt/outrider")
PLAN = ServicePlan(
    python=PREFIX / "bin/python",
    prefixes=(PREFIX,),
    is_system=True,
    address=DEFAULT_ADDRESS,
    has_socket=True,
    settings={},
    groups=("render", "video"),
)


def render_reference() -> Mapping[str, str]:
    """The text of each file by its name; the user's one for a user whose home is /home/me."""
    of_user = replace(PLAN, is_system=False)
    return {
        "outrider.service": render_service(PLAN, SYSTEM),
        "outrider.socket": render_socket(PLAN),
        "outrider.sysusers": render_sysusers(PLAN.groups),
        "user/outrider.service": render_service(of_user, user_layout(Path("/home/me/.config"))),
    }


if __name__ == "__main__":
    for name, text in render_reference().items():
        (Path(sys.argv[1]) / name).write_text(text, "utf-8")
