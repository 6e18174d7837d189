"""How are adapters (LoRA) put over the weights of a context (GUIDE 1.11)?"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as lib

from ....quant.adapter import find_misfit
from ....quant.gguf import GGUFError, read_header
from ...errors import LoadFailed
from ...protocol import Load
from .context import LlamaContext
from .log import LlamaLog
from .model import LlamaModel


@dataclass(frozen=True, slots=True)
class AdapterSet:
    """Adapters of one model; llama.cpp frees them with it."""

    handles: tuple[Any, ...]

    def apply(self, context: LlamaContext) -> None:
        """Change every later decode of a context on the model. Raises LoadFailed.

        What is in its KV cache does not change, so this comes before its first decode.
        """
        count = len(self.handles)
        if not count:
            return
        handles = (lib.llama_adapter_lora_p_ctypes * count)(*self.handles)
        scales = (ctypes.c_float * count)(*[1.0] * count)
        if lib.llama_set_adapters_lora(context.handle, handles, count, scales):
            raise LoadFailed("llama.cpp does not apply the adapter")


def load_adapters(model: LlamaModel, load: Load, log: LlamaLog) -> AdapterSet:
    """The adapters of `load`. Raises LoadFailed with what does not fit.

    A context reserves graph nodes for the adapters that its model has by then, so they come first.
    """
    return AdapterSet(tuple(_load(model, Path(path), load, log) for path in load.adapters))


def _load(model: LlamaModel, path: Path, load: Load, log: LlamaLog) -> object:
    try:
        misfit = find_misfit(read_header(Path(load.model)), read_header(path))
    except GGUFError as error:
        raise LoadFailed(str(error)) from error
    if misfit:
        raise LoadFailed(f"the adapter {path} does not fit {load.model}: {misfit}")
    handle = lib.llama_adapter_lora_init(model.handle, str(path).encode())
    if not handle:
        raise LoadFailed(f"unable to load the adapter {path}: {log.cause}")
    return handle
