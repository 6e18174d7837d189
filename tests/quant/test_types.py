"""Quantisations have the names clients know and the sizes files have."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from outrider.quant.types import (
    FILE_TYPES,
    UnknownFileType,
    find_file_type,
    format_parameters,
    quantisation_name,
    tensor_bytes,
    tensor_kind,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("file_type", "name"),
    [
        (0, "F32"),
        (1, "F16"),
        (2, "Q4_0"),
        (3, "Q4_1"),
        (4, "MXFP4"),
        (7, "Q8_0"),
        (10, "Q2_K"),
        (14, "Q4_K_S"),
        (15, "Q4_K_M"),
        (25, "IQ4_NL"),
        (32, "BF16"),
        (38, "MXFP4"),
        (1024 + 15, "Q4_K_M"),
        (5, None),
        (33, None),
        (999, None),
        (-1, None),
    ],
)
def test_file_types_have_the_names_clients_know(file_type: int, name: str | None) -> None:
    assert quantisation_name(file_type) == name


@pytest.mark.parametrize(("number", "kind"), [(0, "F32"), (12, "Q4_K"), (30, "BF16"), (4, None)])
def test_tensor_types_are_named(number: int, kind: str | None) -> None:
    assert tensor_kind(number) == kind


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_1", "Q8_0"])
def test_sizes_are_those_of_quantised_data(kind: str) -> None:
    rows = np.ones((3, 64), np.float32)
    assert tensor_bytes(kind, (64, 3)) == quantize(rows, GGMLQuantizationType[kind]).nbytes


@pytest.mark.parametrize(("kind", "shape"), [("Q4_K", (128, 4)), ("Q4_0", (33,)), ("F32", ())])
def test_rows_are_whole_blocks(kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="whole blocks"):
        tensor_bytes(kind, shape)


def test_an_unknown_type_has_no_size() -> None:
    with pytest.raises(ValueError, match="Q9_9"):
        tensor_bytes("Q9_9", (256,))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1K"),
        (12_400, "12K"),
        (134_515_008, "134.52M"),
        (125_000_000, "125M"),
        (500_550_000, "500.55M"),
        (1_000_000_000, "1B"),
        (1_235_814_432, "1.2B"),
        (8_030_261_248, "8.0B"),
        (28_550_000_000, "28.6B"),
        (1_000_000_000_000, "1000B"),
    ],
)
def test_parameter_counts_are_short(count: int, text: str) -> None:
    assert format_parameters(count) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [("q4_K_M", "Q4_K_M"), ("Q4_K", "Q4_K_M"), ("f16", "F16"), (" iq2-xxs ", "IQ2_XXS")],
)
def test_file_types_are_found_as_users_write_them(text: str, name: str) -> None:
    assert find_file_type(text).name == name


def test_an_unknown_file_type_is_an_error_that_lists_them() -> None:
    with pytest.raises(UnknownFileType) as error:
        find_file_type("Q4_K_XL")
    assert str(error.value).startswith("unsupported quantization type Q4_K_XL - supported types")
    assert all(file_type.name in str(error.value) for file_type in FILE_TYPES)


def test_each_file_type_has_its_bits() -> None:
    assert {t.name: t.bits for t in FILE_TYPES if t.name in ("F16", "Q8_0", "Q2_0", "Q1_0")} == {
        "F16": 16.0,
        "Q8_0": 8.5,
        "Q2_0": 2.25,
        "Q1_0": 1.125,
    }
    assert len({t.number for t in FILE_TYPES}) == len(FILE_TYPES)
