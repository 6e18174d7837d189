"""Does an overlay read as the file that was meant, byte by byte and from anywhere?"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from outrider.quant.gguf import Header, read_header
from outrider.quant.overlay import Overlay, build_overlay
from outrider.quant.repair import Extent, PlacedTensor, Repair
from tiny import write_llama

pytestmark = pytest.mark.unit


@pytest.fixture
def header(tmp_path: Path) -> Header:
    return read_header(write_llama(tmp_path / "x.gguf", extra={"general.alignment": 64}))


def read(overlay: Overlay, file: Path, size: int, position: int) -> bytes:
    target = bytearray(size)
    with file.open("rb") as opened:
        count = overlay.read_into(opened.fileno(), memoryview(target), position)
    return bytes(target[:count])


def written(header: Header, repair: Repair, folder: Path) -> GGUFReader:
    overlay, path = build_overlay(header, repair), folder / "overlay.gguf"
    path.write_bytes(read(overlay, header.path, overlay.size_bytes, 0))
    return GGUFReader(path)


def test_without_changes_the_same_is_read(header: Header, tmp_path: Path) -> None:
    one, two = GGUFReader(header.path), written(header, Repair({}, {}, {}, None), tmp_path)
    for name, field in one.fields.items():
        assert two.fields[name].contents() == field.contents()
        assert two.fields[name].types == field.types
    assert [t.name for t in one.tensors] == [t.name for t in two.tensors]
    assert all(
        np.array_equal(a.data, b.data) for a, b in zip(one.tensors, two.tensors, strict=True)
    )


def test_values_of_every_type_names_and_lengths(header: Header, tmp_path: Path) -> None:
    repair = Repair(
        {"a": "ü", "b": 7, "c": 0.5, "d": True, "e": [1, 2, 0], "general.name": "other"},
        {"llama.context_length": "x.context_length"},
        {"tokenizer.ggml.tokens": 3, "tokenizer.ggml.token_type": 2},
        None,
    )
    reader = written(header, repair, tmp_path)
    values = {name: field.contents() for name, field in reader.fields.items()}
    expected = {"a": "ü", "b": 7, "c": 0.5, "d": True, "e": [1, 2, 0], "general.name": "other"}
    assert {key: values[key] for key in expected} == expected
    assert values["x.context_length"] == 2048
    assert "llama.context_length" not in values
    assert len(values["tokenizer.ggml.tokens"]) == 3
    assert len(values["tokenizer.ggml.token_type"]) == 2


def test_a_tensor_of_several_ranges(header: Header, tmp_path: Path) -> None:
    norm = next(t for t in header.tensors if t.name == "output_norm.weight")
    half = norm.size_bytes // 2
    ranges = (Extent(norm.offset + half, half), Extent(norm.offset, half), Extent(norm.offset, 4))
    tensors = (
        PlacedTensor("odd", "F32", (norm.shape[0] + 1,), ranges),
        PlacedTensor("whole", "F32", norm.shape, (Extent(norm.offset, norm.size_bytes),)),
    )
    odd, whole = written(header, Repair({}, {}, {}, tensors), tmp_path).tensors
    both = np.roll(whole.data, len(whole.data) // 2)
    assert np.array_equal(odd.data, np.append(both, whole.data[0]))


def test_any_range_is_read(header: Header) -> None:
    overlay = build_overlay(header, Repair({"a": "b"}, {}, {}, None))
    everything = read(overlay, header.path, overlay.size_bytes + 100, 0)
    assert len(everything) == overlay.size_bytes
    draw = random.Random(1)
    for _ in range(200):
        start, size = draw.randrange(overlay.size_bytes), draw.randrange(1, 5000)
        assert read(overlay, header.path, size, start) == everything[start : start + size]
    assert read(overlay, header.path, 10, overlay.size_bytes) == b""


def test_a_file_that_became_shorter_is_an_error(header: Header) -> None:
    overlay = build_overlay(header, Repair({"a": "b"}, {}, {}, None))
    header.path.write_bytes(b"")
    with pytest.raises(OSError, match="has become shorter"):
        read(overlay, header.path, overlay.size_bytes, 0)
