"""How tests get an adapter (LoRA): random changes for the weights of a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray
from tiny import Tensors, write_gguf

CHANGED = ("attn_q.weight", "attn_output.weight", "ffn_down.weight")
ALPHA = 64.0  # the changes are scaled by alpha / rank


def write_lora(
    path: Path,
    base: Path,
    *,
    changed: Sequence[str] = CHANGED,
    rank: int = 4,
    seed: int = 7,
    spread: float = 0.15,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """An adapter that fits `base` and changes every matrix with one of these endings."""
    weights = {t.name: t for t in GGUFReader(base).tensors}
    architecture = GGUFReader(base).get_field("general.architecture")
    assert architecture is not None
    keys = {
        "general.architecture": str(architecture.contents()),
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": ALPHA,
    }
    names = [name for name in weights if name.endswith(tuple(changed))]
    shapes = {name: tuple(int(n) for n in weights[name].shape) for name in names}
    return write_gguf(path, keys | dict(extra or {}), list(_pairs(shapes, rank, seed, spread)))


def write_merged(path: Path, base: Path, lora: Path) -> Path:
    """The weights of `base` with the changes of `lora` added to them: W + alpha / rank * B A."""
    changes = {t.name: np.array(t.data) for t in GGUFReader(lora).tensors}
    reader = GGUFReader(base)

    def merged(name: str, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        if f"{name}.lora_a" not in changes:
            return weights
        a, b = changes[f"{name}.lora_a"], changes[f"{name}.lora_b"]
        sum_: NDArray[np.float32] = weights + np.float32(ALPHA / len(a)) * (b @ a)
        return sum_

    keys = {
        field.name: field.contents()
        for field in reader.fields.values()
        if not field.name.startswith("GGUF.")
    }
    return write_gguf(
        path, keys, [(t.name, merged(t.name, np.array(t.data))) for t in reader.tensors]
    )


def _pairs(shapes: Mapping[str, tuple[int, ...]], rank: int, seed: int, spread: float) -> Tensors:
    draw = np.random.default_rng(seed)
    for name, (columns, rows) in shapes.items():
        for side, size in (("a", (rank, columns)), ("b", (rows, rank))):
            yield f"{name}.lora_{side}", draw.normal(0, spread, size).astype(np.float32)
