"""How is the pair with experts made? From a dense model's FFN, copied behind a random router.

llama.cpp's llama graph divides the weights of the chosen experts by their sum, so equal experts
give what the dense FFN gives, up to rounding: text and acceptance are those of the dense model.
Only the costs differ, since more rows use more experts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from numpy.typing import NDArray
from outrider.daemon.app import ensure
from outrider.daemon.cli.client import DaemonError
from outrider.daemon.cli.progress import follow
from outrider.models.errors import ModelError
from outrider.models.name import Name
from outrider.models.scratch import scratch
from outrider.models.store import Store
from weights import import_gguf

from .failure import BenchFailed
from .progress import tell
from .quantisation import F16, Q4_0, quantise
from .scenarios import MODEL

MOE = "smollm2-moe-pair:8x135m"
EXPERTS, EXPERTS_USED = 8, 2
FFN = ("ffn_gate", "ffn_up", "ffn_down")
ARCHITECTURE = "general.architecture"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file; quantised data are kept as bytes."""

    name: str
    data: NDArray[np.generic]
    kind: GGMLQuantizationType


def ensure_moe_pair(store_root: Path) -> str:
    """The name of the pair in the store, made now if need be: 1.5 GB, twice that while it is made.
    Raises BenchFailed.

    The target is F16: with quantised weights llama.cpp rounds the activations too, which changes
    the text of so small a model. The drafter is Q4_0, so that some of its drafts are rejected.
    """
    if Store(store_root).find(Name.parse(MOE)):
        return MOE
    dense = dense_model(store_root)
    with scratch(store_root) as room:
        drafter = quantise(dense, room.path / "drafter.gguf", Q4_0)
        single = quantise(dense, room.path / "target.gguf", F16)
        tell(f"  making {EXPERTS} experts of {MODEL}")
        target = write_moe(single, room.path / "experts.gguf")
        import_gguf(store_root, MOE, target, draft=drafter)
    return MOE


def write_moe(source: Path, target: Path, *, seed: int = 0) -> Path:
    """A llama file in which all experts of a layer are copies of its dense FFN; deterministic.
    Raises BenchFailed."""
    dense = GGUFReader(source)
    architecture = dense.fields[ARCHITECTURE].contents()
    if architecture != "llama":
        raise BenchFailed(f"{source} is a {architecture}, whose experts may have another layout")
    writer = GGUFWriter(target, architecture)
    _copy_metadata(dense, writer)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(EXPERTS_USED)
    for tensor in _tensors(dense, np.random.default_rng(seed)):
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def dense_model(store_root: Path) -> Path:
    store = Store(store_root)
    try:
        asyncio.run(ensure(store, MODEL, follow))
        path = store.resolve(MODEL).model_path
    except (DaemonError, ModelError) as error:
        raise BenchFailed(str(error)) from error
    if path is None:
        raise BenchFailed(f"{MODEL} in {store_root} has no weights")
    return path


def _copy_metadata(source: GGUFReader, writer: GGUFWriter) -> None:
    for key, field in source.fields.items():
        if key == ARCHITECTURE or key.startswith("GGUF."):
            continue  # the writer has its own
        kind = field.types[0]
        of_elements = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, of_elements)


def _tensors(dense: GGUFReader, rng: np.random.Generator) -> Iterator[Tensor]:
    for tensor in dense.tensors:
        block, _, part = tensor.name.removesuffix(".weight").rpartition(".")
        if part not in FFN:
            yield Tensor(tensor.name, tensor.data, tensor.tensor_type)
            continue
        if part == FFN[0]:
            yield _router(f"{block}.ffn_gate_inp.weight", int(tensor.shape[0]), rng)
        copies = np.stack([tensor.data] * EXPERTS)
        yield Tensor(f"{block}.{part}_exps.weight", copies, tensor.tensor_type)


def _router(name: str, embd: int, rng: np.random.Generator) -> Tensor:
    """Random rows of equal norm, so that every expert gets its share of the tokens."""
    weights = rng.normal(0.0, embd**-0.5, (EXPERTS, embd)).astype(np.float32)
    return Tensor(name, weights, GGMLQuantizationType.F32)
