"""Does an adapter (LoRA) fit the weights that it changes?"""

from collections.abc import Mapping
from typing import Final

from .gguf import Header, Tensor
from .repair import plan_repair

LORA: Final = "lora"  # the only `adapter.type` that llama.cpp knows
ARCHITECTURE_KEY: Final = "general.architecture"
ALORA_KEY: Final = "adapter.alora.invocation_tokens"
EMBEDDING: Final = "token_embd.weight"  # its pair is stored the other way round
IGNORED_SUFFIX: Final = "_norm.weight"  # tensors of norms are skipped by llama.cpp
SUFFIXES: Final = (".lora_a", ".lora_b")


def is_adapter(header: Header) -> bool:
    """Whether the file holds changes to weights instead of weights."""
    return header.text("general.type") == "adapter"


def find_misfit(base: Header, adapter: Header) -> str:
    """Why `adapter` cannot be applied to `base`; "" if it can.

    These are the conditions of llama.cpp (GUIDE 1.11) for the weights as it is shown them, which is
    repaired where they were written for another engine.
    """
    kind = adapter.text("adapter.type")
    if kind != LORA:
        return f"its type is {kind or 'not stated'}, and only {LORA} is supported"
    if ALORA_KEY in adapter.values:
        return "it is an aLoRA, which begins in the middle of a prompt; that is not supported"
    repair = plan_repair(base)
    architecture = repair.values.get(ARCHITECTURE_KEY) if repair else None
    if adapter.architecture != (expected := architecture or base.architecture):
        return f"it was made for {adapter.architecture}, and the model is {expected}"
    tensors = repair.tensors if repair and repair.tensors is not None else base.tensors
    return _find_tensor_misfit({each.name: each.shape for each in tensors}, adapter.tensors)


def _find_tensor_misfit(base: Mapping[str, tuple[int, ...]], tensors: tuple[Tensor, ...]) -> str:
    pairs: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        if tensor.name.endswith(SUFFIXES):
            pairs.setdefault(tensor.name[:-7], {})[tensor.name[-7:]] = tensor
        elif not tensor.name.endswith(IGNORED_SUFFIX):
            return f"{tensor.name} is no part of a LoRA"
    if not pairs:
        return "it has no tensors"
    found = (_find_pair_misfit(name, base.get(name), pair) for name, pair in pairs.items())
    return next((misfit for misfit in found if misfit), "")


def _find_pair_misfit(name: str, shape: tuple[int, ...] | None, pair: Mapping[str, Tensor]) -> str:
    if shape is None:
        return f"it changes {name}, which the model does not have"
    if len(pair) < len(SUFFIXES):
        return f"one half of its pair for {name} is missing"
    a, b = (pair[suffix].shape for suffix in SUFFIXES)
    if name == EMBEDDING:
        made_for, ranks = (b[1], a[1], *b[2:]), (a[0], b[0])
    else:
        made_for, ranks = (a[0], b[1], *b[2:]), (a[1], b[0])
    if made_for != shape:
        return f"it expects {name} of {_size(made_for)}, and the model's is {_size(shape)}"
    if ranks[0] != ranks[1]:
        return f"its pair for {name} has the ranks {ranks[0]} and {ranks[1]}"
    return ""


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
