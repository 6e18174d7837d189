"""How quantisation types are named, and the sizes of their tensors."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Final

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

MXFP4_FILE_TYPE = 4  # of Ollama's MXFP4 files; llama.cpp does not use this number
UNSURE_FLAG = int(LlamaFileType.GUESSED)  # a flag in the file type

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
    number = file_type & ~UNSURE_FLAG
    if number == MXFP4_FILE_TYPE:
        return "MXFP4"
    try:
        name = str(LlamaFileType(number).name)
    except ValueError:
        return None
    return name.removeprefix("ALL_").removeprefix("MOSTLY_").removesuffix("_MOE")


def tensor_kind(number: int) -> str | None:
    """The name of a tensor type's number in a GGUF file (12 is "Q4_K"); None if it is unknown."""
    try:
        return str(GGMLQuantizationType(number).name)
    except ValueError:
        return None


def tensor_bytes(kind: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor whose rows have `shape[0]` elements.

    Raises ValueError for an unknown type, or a row that is not a whole number of its blocks.
    """
    if kind not in GGMLQuantizationType.__members__:
        raise ValueError(f"{kind} is not a tensor type")
    block_elements, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    if not shape or shape[0] % block_elements:
        raise ValueError(f"rows of {kind} are whole blocks of {block_elements} elements")
    return prod(shape) // int(block_elements) * int(block_bytes)


def row_bytes(kind: str, num_elements: int) -> int:
    """Bytes of one row of a tensor, in whole blocks. Raises KeyError for an unknown type."""
    block_elements, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return -(-num_elements // int(block_elements)) * int(block_bytes)


def format_parameters(count: int) -> str:
    """A parameter count in Ollama's format: 999, 12K, 134.52M, 8.0B, and 7B if it is exact."""
    if count < 1_000:
        return str(count)
    if count < 1_000_000:
        return f"{count / 1_000:.0f}K"
    unit, letter, decimals = (10**6, "M", 2) if count < 10**9 else (10**9, "B", 1)
    return f"{count / unit:.{decimals if count % unit else 0}f}{letter}"
