"""How do tests get files as Ollama's library has them? From sound ones, with the flaws of CONTRACT
6.6 put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray
from tiny import write_gguf

Keys = dict[str, object]
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Flaws:
    """What is put into a sound file."""

    keys: Mapping[str, object] = field(default_factory=dict)  # added or replaced
    without: tuple[str, ...] = ()  # keys that are left out
    architecture: str = ""  # the private name, which the keys get as a prefix too
    tensors: Mapping[str, str] = field(default_factory=dict)  # other ends of names
    beside: tuple[str, ...] = ()  # tensors of vision, audio and drafter
    change: Callable[[Weights], Weights] = lambda weights: weights


def write_foreign(path: Path, sound: Path, flaws: Flaws) -> Path:
    reader = GGUFReader(sound)
    skipped = ("GGUF.", *flaws.without)
    keys = {k: v.contents() for k, v in reader.fields.items() if not k.startswith(skipped)}
    keys |= flaws.keys
    if flaws.architecture:
        old = str(keys["general.architecture"])
        keys = {_prefixed(key, old, flaws.architecture): value for key, value in keys.items()}
        keys["general.architecture"] = flaws.architecture
    weights = {_ending(t.name, flaws.tensors): np.array(t.data) for t in reader.tensors}
    weights = flaws.change(weights)
    weights |= {name: np.ones((2, 4), np.float32) for name in flaws.beside}
    return write_gguf(path, keys, weights.items())


def split_experts(weights: Weights) -> Weights:
    """Gate and up of the experts as tensors of their own."""
    found: Weights = {}
    for name, data in weights.items():
        if "ffn_gate_up_exps" not in name:
            found[name] = data
            continue
        half = data.shape[1] // 2
        found[name.replace("gate_up", "gate")] = np.ascontiguousarray(data[:, :half])
        found[name.replace("gate_up", "up")] = np.ascontiguousarray(data[:, half:])
    return found


def _prefixed(key: str, old: str, new: str) -> str:
    return new + key.removeprefix(old) if key.startswith(f"{old}.") else key


def _ending(name: str, ends: Mapping[str, str]) -> str:
    for old, new in ends.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
