"""What have loads on this machine really taken, beside what was predicted? Kept on disk.

There is a file for each architecture and set of devices, because predictions of one architecture
are wrong in the same way. It holds the last loads, from which a correction is computed anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ...quant.memory import (
    ContextShape,
    MemoryEstimate,
    ModelHeaders,
    PartBytes,
    Placement,
    estimate_memory,
)
from ...quant.memory_correction import UNCORRECTED, MemoryCorrection, correct, learn
from ..protocol import DeviceBytes, Ready
from .machine import HOST, Machine
from .plan import LoadPlan
from .wording import Estimate

MAX_OBSERVATIONS = 16  # loads in a file; the oldest goes first
# The parts that llama.cpp reports; a prediction has more, which no load can measure.
PARTS = ("weights_bytes", "cache_bytes", "compute_bytes", "adapter_bytes", "drafter_bytes")

log = logging.getLogger(__name__)


class Observation(msgspec.Struct, frozen=True):
    """One load: bytes by device and part."""

    predicted: tuple[DeviceBytes, ...]
    measured: tuple[DeviceBytes, ...]

    @property
    def error(self) -> float:
        """By how much of the measured bytes the prediction was wrong; positive: it was too high."""
        predicted, measured = (
            sum(device.total_bytes for device in devices)
            for devices in (self.predicted, self.measured)
        )
        return predicted / measured - 1 if measured else 0.0


class CorrectionStore:
    """The observations of this machine. A folder that cannot be used is logged, and forgotten."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[Observation, ...]] = {}

    @classmethod
    def of(cls, cache_home: Path) -> CorrectionStore:
        """The store in the folder of everything that is measured."""
        return cls(cache_home / "outrider" / "memory")

    def find(self, architecture: str, hardware: object) -> tuple[Observation, ...]:
        """The last loads, the oldest first; none if there is no file, or it is damaged."""
        path = self._path(architecture, hardware)
        if path not in self._known:
            self._known[path] = _read(path)
        return self._known[path]

    def estimate(self, architecture: str, machine: Machine) -> Estimate:
        """The prediction of sizes, corrected by what loads of this architecture have taken."""
        gpus = tuple(gpu.name for gpu in machine.gpus)
        seen = self.find(architecture, (machine.processor, gpus))
        return corrected_estimate(learn_corrections(seen), gpus) if seen else estimate_memory

    def add(self, architecture: str, hardware: object, observation: Observation) -> None:
        """Keep one more load; two daemons at a time lose one of theirs at most."""
        path = self._path(architecture, hardware)
        kept = (*self.find(architecture, hardware), observation)[-MAX_OBSERVATIONS:]
        if self._known[path][-1:] == (observation,):
            return
        self._known[path] = kept
        try:
            _write(path, msgspec.json.encode(kept))
        except OSError as error:
            log.warning("what a load takes cannot be kept in %s: %s", path, error)

    def _path(self, architecture: str, hardware: object) -> Path:
        digest = hashlib.sha256(repr((architecture, hardware)).encode()).hexdigest()
        return self._folder / f"{digest[:24]}.json"


def observe(plan: LoadPlan, ready: Ready) -> Observation | None:
    """The observation of a load; None if its runner has measured nothing."""
    if not ready.devices:
        return None
    names = {device.device: device.is_gpu for device in ready.devices}
    predicted = [
        DeviceBytes(name, names.get(name, True), **{part: getattr(found, part) for part in PARTS})
        for name, found in plan.predicted().items()
    ]
    return Observation(tuple(predicted), ready.devices)


def learn_corrections(observations: Iterable[Observation]) -> dict[str, MemoryCorrection]:
    """What the loads have taught of each device, by its name; the oldest load comes first."""
    records: dict[str, MemoryCorrection] = {}
    for observation in observations:
        measured = {device.device: device for device in observation.measured}
        for predicted in observation.predicted:
            if found := measured.get(predicted.device):
                record = records.get(predicted.device, UNCORRECTED)
                parts = _part_bytes(predicted), _part_bytes(found)
                records[predicted.device] = learn(record, *parts)
    return records


def corrected_estimate(records: Mapping[str, MemoryCorrection], gpus: Sequence[str]) -> Estimate:
    """The prediction with these corrections. `gpus`: the names of the machine's GPUs."""
    host, *others = (records.get(name, UNCORRECTED) for name in (HOST, *gpus))

    def estimate(
        model: ModelHeaders, context: ContextShape, placement: Placement
    ) -> MemoryEstimate:
        return correct(estimate_memory(model, context, placement), host, others)

    return estimate


def _part_bytes(device: DeviceBytes) -> PartBytes:
    return PartBytes(**{part: getattr(device, part) for part in PARTS})


def _read(path: Path) -> tuple[Observation, ...]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Observation, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("%s is not used: %s", path, error)
        return ()


def _write(path: Path, text: bytes) -> None:
    """Replace the file as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
