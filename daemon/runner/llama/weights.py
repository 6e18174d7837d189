"""How do the weights of a file get into memory, also those that llama.cpp refuses as they are?

Files of Ollama's library that need it are repaired while they are loaded (CONTRACT 6.6): by
overrides of single values, or else llama.cpp reads an overlay through a stream of the C library.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llama_cpp import llama_cpp as lib

from ....quant.gguf import GGUFError, Header, Scalar, read_header
from ....quant.overlay import Overlay, build_overlay
from ....quant.repair import Repair, arrays_for, plan_repair
from ...errors import LoadFailed

# llama_model_kv_override holds so many bytes of a text, the last of them null (llama.h).
MAX_OVERRIDE_BYTES = 128

# The functions of cookie_io_functions_t, see fopencookie(3).
_Read = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_Seek = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64), ctypes.c_int
)

log = logging.getLogger(__name__)


class _CookieFunctions(ctypes.Structure):
    _fields_ = (
        ("read", _Read),
        ("write", ctypes.c_void_p),
        ("seek", _Seek),
        ("close", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """A model, and what its file says."""

    handle: object  # llama.cpp's; None if it refuses the file
    header: Header | None

    @property
    def copied_bytes(self) -> int:
        """Size of the token embeddings that are the output matrix, too: where that is on a GPU,
        both it and the host have a copy."""
        tensors = self.header.tensors if self.header else ()
        sizes = {tensor.name: tensor.size_bytes for tensor in tensors}
        return 0 if "output.weight" in sizes else sizes.get("token_embd.weight", 0)


def load_weights(path: str, params: lib.llama_model_params) -> LoadedWeights:
    """The model of a file. Raises LoadFailed for one that cannot be repaired."""
    header = _header(path)
    return LoadedWeights(_load(path, header, params), header)


def _load(path: str, header: Header | None, params: lib.llama_model_params) -> object:
    repair = plan_repair(header) if header else None
    if header is None or repair is None:
        return lib.llama_model_load_from_file(path.encode(), params)
    log.info("%s was written for another engine; it is repaired while it is loaded", path)
    if repair.overrides is not None:
        overrides = make_overrides(repair.overrides)
        params.kv_overrides = overrides
        return lib.llama_model_load_from_file(path.encode(), params)
    return _load_overlay(header, repair, params)


def make_overrides(values: Mapping[str, Scalar]) -> ctypes.Array[ctypes.Structure]:
    """The values for `llama_model_params.kv_overrides`, with the end that llama.cpp looks for."""
    overrides: ctypes.Array[ctypes.Structure] = (lib.llama_model_kv_override * (len(values) + 1))()
    for override, (key, value) in zip(overrides, values.items(), strict=False):
        override.key = key.encode()
        match value:
            case bool():
                override.tag = lib.LLAMA_KV_OVERRIDE_TYPE_BOOL
                override.value.val_bool = value
            case int():
                override.tag = lib.LLAMA_KV_OVERRIDE_TYPE_INT
                override.value.val_i64 = value
            case float():
                override.tag = lib.LLAMA_KV_OVERRIDE_TYPE_FLOAT
                override.value.val_f64 = value
            case _:
                override.tag = lib.LLAMA_KV_OVERRIDE_TYPE_STR
                override.value.val_str = str(value).encode()[: MAX_OVERRIDE_BYTES - 1]
    return overrides


def _header(path: str) -> Header | None:
    """None for a file that cannot be read: llama.cpp says why."""
    try:
        header = read_header(Path(path))
        arrays = arrays_for(header)
        return read_header(Path(path), arrays=arrays) if arrays else header
    except GGUFError:
        return None


def _load_overlay(header: Header, repair: Repair, params: lib.llama_model_params) -> object:
    """The model of a repaired header. It is read: what is not a file cannot be mapped."""
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE
    prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, lib.llama_model_params)
    load = prototype(("llama_model_load_from_file_ptr", lib._lib))
    try:
        with header.path.open("rb") as file:
            overlay = build_overlay(header, repair)
            with _open_stream(file.fileno(), overlay) as stream:
                return load(stream, params)
    except OSError as error:
        raise LoadFailed(f"unable to load model {header.path}: {error}") from error


@contextmanager
def _open_stream(file: int, overlay: Overlay) -> Iterator[int]:
    """The address of a FILE that reads the overlay; raises LoadFailed without glibc."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fopencookie"):
        raise LoadFailed("this model was written for Ollama's engine, and needs Linux with glibc")
    position = 0

    def read(_: object, address: int, size: int) -> int:
        nonlocal position
        target = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
        try:
            count = overlay.read_into(file, target, position)
        except OSError as error:
            log.error("the weights cannot be read: %s", error)
            return -1
        position += count
        return count

    def seek(_: object, offset: ctypes.Array[ctypes.c_int64], whence: int) -> int:
        nonlocal position
        start = {os.SEEK_SET: 0, os.SEEK_CUR: position, os.SEEK_END: overlay.size_bytes}[whence]
        position = offset[0] = start + offset[0]
        return 0

    functions = _CookieFunctions(_Read(read), None, _Seek(seek), None)
    libc.fopencookie.restype = ctypes.c_void_p
    libc.fopencookie.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _CookieFunctions)
    libc.fclose.argtypes = (ctypes.c_void_p,)
    stream = libc.fopencookie(None, b"rb", functions)
    if not stream:
        raise LoadFailed(f"no stream can be opened: {os.strerror(ctypes.get_errno())}")
    try:
        yield stream
    finally:
        libc.fclose(stream)
