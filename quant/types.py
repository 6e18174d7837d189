"""How quantisation types are named, and the sizes of their tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from .ggml import TENSOR_TYPES, UNSURE_FILE_TYPE

MXFP4_FILE_TYPE = 4  # of Ollama's MXFP4 files; llama.cpp does not use this number
NVFP4_FILE_TYPE = 39  # of llama.cpp, whose quantiser does not write it

_KINDS: Final[Mapping[int, str]] = {kind.number: name for name, kind in TENSOR_TYPES.items()}


class UnknownFileType(ValueError):
    """The text names no file type that can be written; the message lists all of them."""


@dataclass(frozen=True, slots=True)
class FileType:
    """A file type of llama.cpp's quantiser; `kind` is the tensor type of most of its tensors."""

    name: str
    number: int  # llama_ftype in llama.h, `general.file_type` in a file
    kind: str

    @property
    def bits(self) -> float:
        """Bits per weight of most tensors; norms and some layers take more."""
        kind = TENSOR_TYPES[self.kind]
        return 8 * kind.block_bytes / kind.block_elements


# In the order of their size. The tensor types are those of llama_ftype_get_default_type.
FILE_TYPES: Final = (
    FileType("F32", 0, "F32"),
    FileType("F16", 1, "F16"),
    FileType("BF16", 32, "BF16"),
    FileType("Q8_0", 7, "Q8_0"),
    FileType("Q6_K", 18, "Q6_K"),
    FileType("Q5_1", 9, "Q5_1"),
    FileType("Q5_K_M", 17, "Q5_K"),
    FileType("Q5_K_S", 16, "Q5_K"),
    FileType("Q5_0", 8, "Q5_0"),
    FileType("Q4_1", 3, "Q4_1"),
    FileType("Q4_K_M", 15, "Q4_K"),
    FileType("Q4_K_S", 14, "Q4_K"),
    FileType("Q4_0", 2, "Q4_0"),
    FileType("IQ4_NL", 25, "IQ4_NL"),
    FileType("IQ4_XS", 30, "IQ4_XS"),
    FileType("MXFP4_MOE", 38, "MXFP4"),
    FileType("Q3_K_L", 13, "Q3_K"),
    FileType("Q3_K_M", 12, "Q3_K"),
    FileType("Q3_K_S", 11, "Q3_K"),
    FileType("IQ3_M", 27, "IQ3_S"),
    FileType("IQ3_S", 26, "IQ3_S"),
    FileType("IQ3_XS", 22, "IQ3_S"),
    FileType("IQ3_XXS", 23, "IQ3_XXS"),
    FileType("Q2_K", 10, "Q2_K"),
    FileType("Q2_K_S", 21, "Q2_K"),
    FileType("IQ2_M", 29, "IQ2_S"),
    FileType("IQ2_S", 28, "IQ2_XS"),
    FileType("IQ2_XS", 20, "IQ2_XS"),
    FileType("Q2_0", 41, "Q2_0"),
    FileType("IQ2_XXS", 19, "IQ2_XXS"),
    FileType("TQ2_0", 37, "TQ2_0"),
    FileType("IQ1_M", 31, "IQ1_M"),
    FileType("TQ1_0", 36, "TQ1_0"),
    FileType("IQ1_S", 24, "IQ1_S"),
    FileType("Q1_0", 40, "Q1_0"),
)
# Short names that llama.cpp's quantiser takes, too.
_ALIASES: Final[Mapping[str, str]] = {
    "Q3_K": "Q3_K_M",
    "Q4_K": "Q4_K_M",
    "Q5_K": "Q5_K_M",
    "MXFP4": "MXFP4_MOE",
    "FP16": "F16",
    "FP32": "F32",
}


def find_file_type(text: str) -> FileType:
    """The file type of a name in any case, such as "q4_K_M". Raises UnknownFileType."""
    name = text.strip().upper().replace("-", "_")
    name = _ALIASES.get(name, name)
    for file_type in FILE_TYPES:
        if file_type.name == name:
            return file_type
    names = ", ".join(file_type.name for file_type in FILE_TYPES)
    raise UnknownFileType(f"unsupported quantization type {text} - supported types are {names}")


# Tensor types that llama.cpp has read once, by number, with the type that has taken their place.
# The repacked ones (4_4, 4_8, 8_8) are made while loading today.
REMOVED_TYPES: Final[Mapping[int, tuple[str, str]]] = {
    4: ("Q4_2", "Q4_0"),
    5: ("Q4_3", "Q4_1"),
    31: ("Q4_0_4_4", "Q4_0"),
    32: ("Q4_0_4_8", "Q4_0"),
    33: ("Q4_0_8_8", "Q4_0"),
    36: ("IQ4_NL_4_4", "IQ4_NL"),
    37: ("IQ4_NL_4_8", "IQ4_NL"),
    38: ("IQ4_NL_8_8", "IQ4_NL"),
}


def quantisation_name(file_type: int) -> str | None:
    """The name of a `general.file_type` for clients (15 is "Q4_K_M"); None if it is unknown."""
    number = file_type & ~UNSURE_FILE_TYPE
    if number in (MXFP4_FILE_TYPE, NVFP4_FILE_TYPE):
        return "MXFP4" if number == MXFP4_FILE_TYPE else "NVFP4"
    for known in FILE_TYPES:
        if known.number == number:
            return known.name.removesuffix("_MOE")
    return None


def tensor_kind(number: int) -> str | None:
    """The name of a tensor type's number in a GGUF file (12 is "Q4_K"); None if it is unknown."""
    return _KINDS.get(number)


def tensor_bytes(kind: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor whose rows have `shape[0]` elements.

    Raises ValueError for an unknown type, or a row that is not a whole number of its blocks.
    """
    if kind not in TENSOR_TYPES:
        raise ValueError(f"{kind} is not a tensor type")
    elements = TENSOR_TYPES[kind].block_elements
    if not shape or shape[0] % elements:
        raise ValueError(f"rows of {kind} are whole blocks of {elements} elements")
    return prod(shape) // elements * TENSOR_TYPES[kind].block_bytes


def row_bytes(kind: str, num_elements: int) -> int:
    """Bytes of one row of a tensor, in whole blocks. Raises KeyError for an unknown type."""
    return -(-num_elements // TENSOR_TYPES[kind].block_elements) * TENSOR_TYPES[kind].block_bytes


def format_parameters(count: int) -> str:
    """A parameter count in Ollama's format: 999, 12K, 134.52M, 8.0B, and 7B if it is exact."""
    if count < 1_000:
        return str(count)
    if count < 1_000_000:
        return f"{count / 1_000:.0f}K"
    unit, letter, decimals = (10**6, "M", 2) if count < 10**9 else (10**9, "B", 1)
    return f"{count / unit:.{decimals if count % unit else 0}f}{letter}"
