"""What was learned about a machine and a pair of models, kept on disk for the next start."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from pathlib import Path

import msgspec

from .acceptance import Acceptance, Record
from .curve import Belief, Curve, Rate
from .learned import Learned

VERSION = 6  # of the file; another one is learned anew
SAVE_EVERY_S = 10.0

log = logging.getLogger("outrider.runner")


class Judged(msgspec.Struct, frozen=True):
    """How often guesses of one kind were right."""

    drafter: str
    kind: str
    place: int  # depth, or bucket of confidence
    ease: int  # of the texts, or of any
    record: Record


class Costs(msgspec.Struct, frozen=True):
    """A curve."""

    shape: dict[int, Belief]
    fresh: list[Belief]
    noise: float


class Stored(msgspec.Struct, frozen=True):
    """The file."""

    version: int
    verify: Costs
    draft: Costs
    catch_up: Rate
    acceptance: tuple[Judged, ...]


def restore(path: Path) -> Learned | None:
    """What the file says; None if there is none that can be used."""
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=Stored)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s is not used: %s", path, error)
        return None
    if stored.version != VERSION:
        return None
    records = {((j.drafter, j.kind, j.place), j.ease): j.record for j in stored.acceptance}
    verify, draft = (
        Curve(costs.shape, costs.fresh, costs.noise) for costs in (stored.verify, stored.draft)
    )
    return Learned(verify, draft, stored.catch_up, Acceptance(records))


def keep(learned: Learned, path: Path) -> None:
    """Write it whole or not at all. Raises OSError."""
    general = learned.acceptance.general
    judged = tuple(Judged(*kind, ease, record) for (kind, ease), record in general.items())
    verify, draft = (
        Costs(curve.shape, curve.fresh, curve.noise) for curve in (learned.verify, learned.draft)
    )
    stored = Stored(VERSION, verify, draft, learned.catch_up, judged)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(stored)))
        partial.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


class Keeper:
    """Saves now and then, while nothing else is to be done."""

    def __init__(self, learned: Learned, path: str) -> None:
        """With an empty path nothing is saved."""
        self._learned = learned
        self._path = Path(path) if path else None
        self._saved_s = -math.inf

    def save(self) -> None:
        """If it is due and something was learned. A disk that cannot be written stops nothing."""
        now_s = time.monotonic()
        if self._path is None or now_s < self._saved_s + SAVE_EVERY_S:
            return
        self._saved_s = now_s
        try:
            keep(self._learned, self._path)
        except OSError as error:
            log.warning("what was learned cannot be kept: %s", error)
            self._path = None
