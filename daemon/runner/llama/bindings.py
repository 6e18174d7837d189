"""Which C functions do the Python bindings of llama.cpp leave out, or call slowly?"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib

from ...errors import LoadFailed


def pointer(array: np.ndarray, kind: type) -> object:
    return ctypes.cast(array.ctypes.data, kind)


def private(name: str, mangled: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of llama-ext.h that the bindings leave out (GUIDE 1.1). Raises LoadFailed."""
    prototype = ctypes.CFUNCTYPE(result, *arguments)
    for symbol in (name, mangled):
        if hasattr(lib._lib, symbol):
            return prototype((symbol, lib._lib))
    raise LoadFailed(f"this build of llama.cpp has no {name}")


def logits_getter() -> Callable[[object], int | None]:
    """llama_get_logits with a plain address as result, in half the time (GUIDE 3.5)."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    return prototype(("llama_get_logits", lib._lib))


def arm_abort(handle: object) -> ctypes.Array[ctypes.c_char]:
    """A flag that llama.cpp polls through libc's strlen, without the GIL (GUIDE 10.3)."""
    flag = ctypes.create_string_buffer(2)
    strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
    callback = lib.ggml_abort_callback(strlen)
    lib.llama_set_abort_callback(handle, callback, ctypes.cast(flag, ctypes.c_void_p))
    return flag
