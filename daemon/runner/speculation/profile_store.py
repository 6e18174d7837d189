"""Where is a speculation profile kept between two starts?"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from pathlib import Path

import msgspec

from .acceptance import Acceptance, AcceptanceRecord
from .profile import SpeculationProfile
from .step_cost import Estimate, StepCost, TokenCost

VERSION = 8
"""Version of the file's format; a profile of another version is ignored and measured anew."""
SAVE_INTERVAL_S = 10.0
"""Seconds between two writes at least; a crash loses no more than what was measured since."""

log = logging.getLogger("outrider.runner")


class StoredAcceptance(msgspec.Struct, frozen=True):
    """The record of one feature of draft tokens."""

    drafter: str
    feature: str
    value: int  # depth, or bucket of a confidence
    predictability: int  # class of the streams
    record: AcceptanceRecord


class StoredStepCost(msgspec.Struct, frozen=True):
    """The arguments of StepCost."""

    by_rows: dict[int, Estimate]
    transient: list[Estimate]
    noise: float


class StoredProfile(msgspec.Struct, frozen=True):
    """The whole file, as JSON."""

    version: int
    verify: StoredStepCost
    draft: StoredStepCost
    prefill: TokenCost
    prompt: TokenCost
    acceptance: tuple[StoredAcceptance, ...]


def load_profile(path: Path) -> SpeculationProfile | None:
    """The stored profile; None if there is none that can be used."""
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=StoredProfile)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s is not used: %s", path, error)
        return None
    if stored.version != VERSION:
        return None
    records = {
        ((each.drafter, each.feature, each.value), each.predictability): each.record
        for each in stored.acceptance
    }
    verify, draft = (
        StepCost(cost.by_rows, cost.transient, cost.noise) for cost in (stored.verify, stored.draft)
    )
    return SpeculationProfile(verify, draft, stored.prefill, stored.prompt, Acceptance(records))


def save_profile(profile: SpeculationProfile, path: Path) -> None:
    """Write the whole file or nothing. Raises OSError.

    Costs with fewer threads depend on a neighbour of that time, and are not stored.
    """
    acceptance = tuple(
        StoredAcceptance(*feature, predictability, record)
        for (feature, predictability), record in profile.acceptance.global_records.items()
    )
    costs = profile.undisturbed
    verify, draft = (
        StoredStepCost(cost.by_rows, cost.transient, cost.noise)
        for cost in (costs.verify, costs.draft)
    )
    stored = StoredProfile(VERSION, verify, draft, costs.prefill, costs.prompt, acceptance)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(stored)))
        partial.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


class ProfileWriter:
    """Saves a profile at intervals, while the engine is idle."""

    def __init__(self, profile: SpeculationProfile, path: str) -> None:
        """With an empty path nothing is saved."""
        self._profile = profile
        self._path = Path(path) if path else None
        self._saved_s = -math.inf

    def save(self) -> None:
        """Save if SAVE_INTERVAL_S is over. A failed write is logged, and ends further ones."""
        now_s = time.monotonic()
        if self._path is None or now_s < self._saved_s + SAVE_INTERVAL_S:
            return
        self._saved_s = now_s
        try:
            save_profile(self._profile, self._path)
        except OSError as error:
            log.warning("the speculation profile cannot be saved: %s", error)
            self._path = None
