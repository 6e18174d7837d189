"""How does a page ask what is wrong with the machine? The checks of `outrider doctor`.

They take seconds, so they run when they are asked for, once at a time. Not in Ollama.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version as package_version

from aiohttp import web

from ..config import Settings
from ..diagnosis.checks import diagnose
from ..diagnosis.facts import AddressUse, Finding
from ..diagnosis.survey import survey
from .json_response import json_response

REUSE_S = 10.0  # as long as an answer is new enough for the next one who asks

Examine = Callable[[], Sequence[Finding]]


class Doctor:
    """The findings of the machine; those who ask at the same time share one examination."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine
        self._lock = asyncio.Lock()
        self._findings: Sequence[Finding] = ()
        self._ready_s = -REUSE_S  # monotonic

    async def findings(self) -> Sequence[Finding]:
        """Problems first; at most REUSE_S old."""
        async with self._lock:
            if time.monotonic() - self._ready_s >= REUSE_S:
                self._findings = await asyncio.to_thread(self._examine)
                self._ready_s = time.monotonic()
            return self._findings


DOCTOR = web.AppKey("doctor", Doctor)


def build_doctor(settings: Settings) -> Doctor:
    """The doctor of the machine on which this daemon runs."""
    address = AddressUse(settings.base_url, "outrider", package_version("outrider"))
    return Doctor(partial(_examine, settings, address))


def _examine(settings: Settings, address: AddressUse) -> tuple[Finding, ...]:
    return diagnose(survey(settings.models, address, os.environ))


async def doctor(request: web.Request) -> web.Response:
    """POST /api/doctor"""
    return json_response({"findings": await request.app[DOCTOR].findings()})
