"""What do the headers of the five Gemma 4 models and of their MTP drafters say? Made, not read.

Shapes are those of the published configurations; tensors and keys are those of llama.cpp's
src/models/gemma4.cpp and gemma4-assistant.cpp, types those that its quantiser chooses
(src/llama-quant.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from outrider.quant.gguf import Header, Tensor, Value
from outrider.quant.types import tensor_bytes
from tiny import _add, tokenizer, vocabulary

VOCAB = 262_144
HEAD_WINDOW, HEAD_GLOBAL = 256, 512
ALIGNMENT = 32  # bytes, of GGUF
Q4_K_M, Q4_0, Q8_0 = "Q4_K_M", "Q4_0", "Q8_0"
FILE_TYPES = {Q4_K_M: 15, Q4_0: 2, Q8_0: 7}

Shaped: TypeAlias = Iterator[tuple[str, Sequence[int]]]  # names and shapes, the row length first


@dataclass(frozen=True, slots=True)
class GemmaShape:
    """One size of Gemma 4 and its drafter."""

    layers: int
    period: int  # every so many layers one attends to everything
    shared: int  # layers at the end without keys and values of their own
    embd: int
    ffn: int
    heads: int
    heads_window: int  # of keys and values, where a window is attended to
    heads_global: int
    window: int
    context: int
    drafter_embd: int
    drafter_ffn: int
    drafter_heads: int
    is_wide_tail: bool = False  # the FFN of shared layers is twice as wide
    has_values: bool = False  # global layers have value projections; else keys serve as values
    per_layer_embd: int = 0
    experts: int = 0
    expert_ffn: int = 0

    def is_window(self, layer: int) -> bool:
        return (layer + 1) % self.period != 0


SHAPES: Mapping[str, GemmaShape] = {
    "31B": GemmaShape(60, 6, 0, 5376, 21504, 32, 16, 4, 1024, 262_144, 1024, 8192, 32),
    "26B-A4B": GemmaShape(
        30, 6, 0, 2816, 2112, 16, 8, 2, 1024, 262_144, 1024, 8192, 16, experts=128, expert_ffn=704
    ),
    "12B": GemmaShape(48, 6, 0, 3840, 15360, 16, 8, 1, 1024, 262_144, 1024, 8192, 16),
    "E4B": GemmaShape(
        42, 6, 18, 2560, 10240, 8, 2, 2, 512, 131_072, 256, 2048, 4,
        has_values=True, per_layer_embd=256,
    ),
    "E2B": GemmaShape(
        35, 5, 20, 1536, 6144, 8, 1, 1, 512, 131_072, 256, 2048, 4,
        is_wide_tail=True, has_values=True, per_layer_embd=256,
    ),
}  # fmt: skip
EXPERTS_USED = 8
KEPT = ("_norm", "ffn_gate_inp", "ssm_conv1d", ".bias")  # parts of names; they stay F32
_F32, _U8 = np.dtype(np.float32), np.dtype(np.uint8)
DRAFTER_LAYERS = 4


def gemma_header(name: str, file_type: str = Q4_K_M) -> Header:
    """The header of a size of Gemma 4, such as "31B"."""
    shape = SHAPES[name]
    return make_header("gemma4", _target_keys(shape), _target_tensors(shape), file_type)


def assistant_header(name: str, file_type: str = Q8_0) -> Header:
    """The header of the MTP drafter of a size of Gemma 4."""
    shape = SHAPES[name]
    return make_header("gemma4-assistant", _drafter_keys(shape), _drafter_tensors(shape), file_type)


def make_header(
    architecture: str, keys: Mapping[str, Value], shaped: Shaped, file_type: str
) -> Header:
    """A header as `read_header` returns it, of a file that does not exist."""
    values: dict[str, Value] = {
        "general.architecture": architecture,
        "general.file_type": FILE_TYPES[file_type],
        **{f"{architecture}.{key}": value for key, value in keys.items()},
    }
    num_layers = int(str(keys["block_count"]))
    tensors, offset = list[Tensor](), 0
    for name, dimensions in shaped:
        kind = _kind(name, dimensions, file_type, num_layers)
        size_bytes = tensor_bytes(kind, dimensions)
        tensors.append(Tensor(name, kind, tuple(dimensions), offset, size_bytes))
        offset += -(-size_bytes // ALIGNMENT) * ALIGNMENT
    return Header(Path("/generated"), 3, offset, values, tuple(tensors))


def write_sparse(header: Header, path: Path, vocab: int = VOCAB) -> Path:
    """A file with this header, whose tensor data are a hole; llama.cpp loads it dry (GUIDE 9.3)."""
    writer = GGUFWriter(path, header.architecture)
    for key, value in {**header.values, **tokenizer(*vocabulary(vocab), None)}.items():
        if key != "general.architecture":
            _add(writer, key, value)
    for tensor in header.tensors:
        kind, shape = GGMLQuantizationType[tensor.kind], tensor.shape[::-1]
        block = gguf.GGML_QUANT_SIZES[kind]
        raw = (*shape[:-1], shape[-1] // block[0] * block[1])
        if kind is GGMLQuantizationType.F32:
            writer.add_tensor_info(tensor.name, shape, _F32, tensor.size_bytes)
            continue
        writer.add_tensor_info(tensor.name, raw, _U8, tensor.size_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    data_bytes = sum(-(-t.size_bytes // ALIGNMENT) * ALIGNMENT for t in header.tensors)
    with path.open("r+b") as file:
        file.truncate(-(-path.stat().st_size // ALIGNMENT) * ALIGNMENT + data_bytes)
    return path


def _target_keys(shape: GemmaShape) -> dict[str, Value]:
    layers = range(shape.layers)
    heads_kv = [shape.heads_window if shape.is_window(i) else shape.heads_global for i in layers]
    ffn = [shape.ffn * _tail_factor(shape, layer) for layer in layers]
    of_experts: dict[str, Value] = {
        "expert_count": shape.experts,
        "expert_used_count": EXPERTS_USED,
        "expert_feed_forward_length": shape.expert_ffn,
    }
    return _common_keys(shape, layers) | (of_experts if shape.experts else {}) | {
        "embedding_length": shape.embd,
        "feed_forward_length": list(ffn),
        "attention.head_count": shape.heads,
        "attention.head_count_kv": list(heads_kv),
        "attention.shared_kv_layers": shape.shared,
        "embedding_length_per_layer_input": shape.per_layer_embd,
        "final_logit_softcapping": 30.0,
    }  # fmt: skip


def _drafter_keys(shape: GemmaShape) -> dict[str, Value]:
    layers = range(DRAFTER_LAYERS)
    windows = [layer < DRAFTER_LAYERS - 1 for layer in layers]
    kv = [shape.heads_window if window else shape.heads_global for window in windows]
    return _common_keys(shape, layers) | {
        "embedding_length": shape.drafter_embd,
        "embedding_length_out": shape.embd,
        "feed_forward_length": shape.drafter_ffn,
        "nextn_predict_layers": DRAFTER_LAYERS,
        "attention.head_count": shape.drafter_heads,
        "attention.head_count_kv": list(kv),
        "attention.shared_kv_layers": DRAFTER_LAYERS,
        "attention.sliding_window_pattern": list(windows),
    }


def _common_keys(shape: GemmaShape, layers: range) -> dict[str, Value]:
    return {
        "block_count": len(layers),
        "context_length": shape.context,
        "attention.key_length": HEAD_GLOBAL,
        "attention.value_length": HEAD_GLOBAL,
        "attention.key_length_swa": HEAD_WINDOW,
        "attention.value_length_swa": HEAD_WINDOW,
        "attention.sliding_window": shape.window,
        "attention.sliding_window_pattern": [shape.is_window(layer) for layer in layers],
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": HEAD_GLOBAL,
        "rope.dimension_count_swa": HEAD_WINDOW,
        "rope.freq_base": 1_000_000.0,
        "rope.freq_base_swa": 10_000.0,
    }


def _tail_factor(shape: GemmaShape, layer: int) -> int:
    return 2 if shape.is_wide_tail and layer >= shape.layers - shape.shared else 1


def _target_tensors(shape: GemmaShape) -> Shaped:
    embd, per_layer = shape.embd, shape.per_layer_embd
    yield "token_embd.weight", (embd, VOCAB)
    yield "output_norm.weight", (embd,)
    yield "rope_freqs.weight", (HEAD_GLOBAL // 2,)
    if per_layer:
        yield "per_layer_token_embd.weight", (per_layer * shape.layers, VOCAB)
        yield "per_layer_model_proj.weight", (embd, per_layer * shape.layers)
        yield "per_layer_proj_norm.weight", (per_layer,)
    for layer in range(shape.layers):
        block, is_window = f"blk.{layer}", shape.is_window(layer)
        head = HEAD_WINDOW if is_window else HEAD_GLOBAL
        kv = head * (shape.heads_window if is_window else shape.heads_global)
        yield from _block(block, embd, head, shape.heads, shape.ffn * _tail_factor(shape, layer))
        if layer < shape.layers - shape.shared:
            yield f"{block}.attn_k.weight", (embd, kv)
            yield f"{block}.attn_k_norm.weight", (head,)
            if is_window or shape.has_values:
                yield f"{block}.attn_v.weight", (embd, kv)
        if shape.experts:
            yield from _expert_tensors(block, shape)
        if per_layer:
            yield f"{block}.inp_gate.weight", (embd, per_layer)
            yield f"{block}.proj.weight", (per_layer, embd)
            yield f"{block}.post_norm.weight", (embd,)


def _drafter_tensors(shape: GemmaShape) -> Shaped:
    embd = shape.drafter_embd
    yield "token_embd.weight", (embd, VOCAB)
    yield "output_norm.weight", (embd,)
    yield "rope_freqs.weight", (HEAD_GLOBAL // 2,)
    yield "nextn.pre_projection.weight", (2 * shape.embd, embd)
    yield "nextn.post_projection.weight", (embd, shape.embd)
    for layer in range(DRAFTER_LAYERS):
        head = HEAD_WINDOW if layer < DRAFTER_LAYERS - 1 else HEAD_GLOBAL
        yield from _block(f"blk.{layer}", embd, head, shape.drafter_heads, shape.drafter_ffn)


def _block(block: str, embd: int, head: int, heads: int, ffn: int) -> Shaped:
    for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
        yield f"{block}.{norm}.weight", (embd,)
    yield f"{block}.attn_q.weight", (embd, heads * head)
    yield f"{block}.attn_q_norm.weight", (head,)
    yield f"{block}.attn_output.weight", (heads * head, embd)
    yield f"{block}.ffn_gate.weight", (embd, ffn)
    yield f"{block}.ffn_up.weight", (embd, ffn)
    yield f"{block}.ffn_down.weight", (ffn, embd)
    yield f"{block}.layer_output_scale.weight", (1,)


def _expert_tensors(block: str, shape: GemmaShape) -> Shaped:
    embd, ffn, experts = shape.embd, shape.expert_ffn, shape.experts
    yield f"{block}.ffn_gate_inp.weight", (embd, experts)
    yield f"{block}.ffn_gate_inp.scale", (embd,)
    for norm in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
        yield f"{block}.{norm}.weight", (embd,)
    yield f"{block}.ffn_gate_up_exps.weight", (embd, 2 * ffn, experts)
    yield f"{block}.ffn_down_exps.weight", (ffn, embd, experts)


def _kind(name: str, dimensions: Sequence[int], file_type: str, layers: int) -> str:
    """The tensor's type by llama.cpp's rules; those of Q4_K_M give some layers more bits."""
    is_small = len(dimensions) == 1 or any(part in name for part in KEPT)
    if is_small or name == "per_layer_model_proj.weight":
        return "F32" if is_small else "BF16"
    if file_type != Q4_K_M:
        return file_type
    layer = int(name.split(".")[1]) if name.startswith("blk.") else 0
    gets_more = (
        "token_embd" in name
        or name == "output.weight"
        or (("attn_v" in name or "ffn_down" in name) and _has_more_bits(layer, layers))
    )
    if dimensions[0] % 256 == 0:
        return "Q6_K" if gets_more else "Q4_K"
    return "Q8_0" if gets_more else "Q5_0"


def _has_more_bits(layer: int, layers: int) -> bool:
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def parameters(header: Header) -> int:
    """Weights of all tensors."""
    return sum(prod(tensor.shape) for tensor in header.tensors)
