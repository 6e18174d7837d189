"""How are weights quantised again? By llama.cpp, with one type for all matrices."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import llama_cpp
from outrider.daemon.runner.llama.log import LOG_ERROR

from .failure import BenchFailed
from .progress import tell

F16 = llama_cpp.LLAMA_FTYPE_MOSTLY_F16
BF16 = llama_cpp.LLAMA_FTYPE_MOSTLY_BF16
Q8_0 = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
Q4_0 = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0


def quantise(source: Path, target: Path, ftype: int) -> Path:
    """Write `target`; the source may be quantised already. Raises BenchFailed."""
    tell(f"  quantising {target.stem}")
    llama_cpp.llama_log_set(_log, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.pure, params.allow_requantize = ftype, True, True
    params.nthread = os.cpu_count() or 1
    rc = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(params)
    )
    if rc:
        raise BenchFailed(f"llama.cpp could not quantise {source}: code {rc}")
    return target


def _tell_error(level: int, text: bytes, _user: object) -> None:
    if level == LOG_ERROR:
        tell(f"  {text.decode('utf-8', 'replace').strip()}")


_log = llama_cpp.llama_log_callback(_tell_error)  # llama.cpp keeps a pointer to it
