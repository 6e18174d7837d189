"""Are ggml's numbers and sizes those that the package gguf has?"""

from __future__ import annotations

import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType, LlamaFileType
from outrider.quant.ggml import TENSOR_TYPES, UNSURE_FILE_TYPE, ValueType
from outrider.quant.types import quantisation_name

pytestmark = pytest.mark.unit


def test_value_types() -> None:
    assert {t.name: int(t) for t in ValueType} == {t.name: int(t) for t in GGUFValueType}


@pytest.mark.parametrize("kind", GGMLQuantizationType)
def test_tensor_types(kind: GGMLQuantizationType) -> None:
    own = TENSOR_TYPES[kind.name]
    assert (own.number, own.block_elements, own.block_bytes) == (kind, *GGML_QUANT_SIZES[kind])


def test_numbers_are_unique() -> None:
    assert len({kind.number for kind in TENSOR_TYPES.values()}) == len(TENSOR_TYPES)


@pytest.mark.parametrize("file_type", set(LlamaFileType) - {LlamaFileType.GUESSED})
def test_file_types(file_type: LlamaFileType) -> None:
    name = file_type.name.removeprefix("ALL_").removeprefix("MOSTLY_").removesuffix("_MOE")
    assert quantisation_name(file_type) == name
    assert quantisation_name(file_type | UNSURE_FILE_TYPE) == name


def test_the_flag_of_found_types() -> None:
    assert int(LlamaFileType.GUESSED) == UNSURE_FILE_TYPE
