"""How does the property list for launchd read (launchd.plist(5))?"""

from __future__ import annotations

import plistlib

from .layout import LABEL, ServiceLayout, ServicePlan

RESTART_S = 10  # between two starts; launchd's own default
STOP_MARGIN_S = 30  # beyond the time to drain, after which launchd kills
MAX_FILES = 8192  # descriptors; launchd's default of 256 is few for many clients


def render_plist(plan: ServicePlan, layout: ServiceLayout) -> str:
    """The property list as XML: started at login (of a user) or boot, and again when it fails."""
    exit_s = STOP_MARGIN_S + (int(plan.drain_s) if plan.drain_s < float("inf") else 3600)
    content = {
        "Label": LABEL,
        "ProgramArguments": [str(plan.python), "-m", "outrider.daemon", "serve"],
        "EnvironmentVariables": dict(plan.settings),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_S,
        "ExitTimeOut": exit_s,
        # macOS would otherwise slow down the processor and the disk for it.
        "ProcessType": "Interactive",
        "SoftResourceLimits": {"NumberOfFiles": MAX_FILES},
        "StandardOutPath": str(layout.log),
        "StandardErrorPath": str(layout.log),
        "WorkingDirectory": str(plan.home),
    }
    return plistlib.dumps(content, sort_keys=False).decode()
