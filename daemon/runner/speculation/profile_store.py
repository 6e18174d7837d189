"""What was learned about a machine and a pair of models, kept on disk for the next start."""

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

VERSION = 6  # of the file; another one is learned anew
SAVE_EVERY_S = 10.0

log = logging.getLogger("outrider.runner")


class StoredAcceptance(msgspec.Struct, frozen=True):
    """How often guesses of one kind were right."""

    drafter: str
    kind: str
    place: int  # depth, or bucket of confidence
    predictability: int  # of the texts, or of any
    record: AcceptanceRecord


class StoredStepCost(msgspec.Struct, frozen=True):
    """A curve."""

    shape: dict[int, Estimate]
    fresh: list[Estimate]
    noise: float


class StoredProfile(msgspec.Struct, frozen=True):
    """The file."""

    version: int
    verify: StoredStepCost
    draft: StoredStepCost
    prefill: TokenCost
    acceptance: tuple[StoredAcceptance, ...]


def load_profile(path: Path) -> SpeculationProfile | None:
    """What the file says; None if there is none that can be used."""
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
        ((j.drafter, j.kind, j.place), j.predictability): j.record for j in stored.acceptance
    }
    verify, draft = (
        StepCost(costs.shape, costs.fresh, costs.noise) for costs in (stored.verify, stored.draft)
    )
    return SpeculationProfile(verify, draft, stored.prefill, Acceptance(records))


def save_profile(profile: SpeculationProfile, path: Path) -> None:
    """Write it whole or not at all. Raises OSError."""
    general = profile.acceptance.general
    judged = tuple(
        StoredAcceptance(*kind, predictability, record)
        for (kind, predictability), record in general.items()
    )
    verify, draft = (
        StoredStepCost(curve.shape, curve.fresh, curve.noise)
        for curve in (profile.verify, profile.draft)
    )
    stored = StoredProfile(VERSION, verify, draft, profile.prefill, judged)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(stored)))
        partial.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


class ProfileWriter:
    """Saves now and then, while nothing else is to be done."""

    def __init__(self, profile: SpeculationProfile, path: str) -> None:
        """With an empty path nothing is saved."""
        self._profile = profile
        self._path = Path(path) if path else None
        self._saved_s = -math.inf

    def save(self) -> None:
        """If it is due and something was learned. A disk that cannot be written stops nothing."""
        now_s = time.monotonic()
        if self._path is None or now_s < self._saved_s + SAVE_EVERY_S:
            return
        self._saved_s = now_s
        try:
            save_profile(self._profile, self._path)
        except OSError as error:
            log.warning("what was learned cannot be kept: %s", error)
            self._path = None
