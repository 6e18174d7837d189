"""Do the parts of a split model become the model again, and is an incomplete one refused?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from outrider.quant.gguf import EveryArray, Header, read_header
from outrider.quant.split import SplitError, is_part, merge_parts, sort_parts
from tiny import write_llama
from tiny_split import split_gguf

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("gguf") / "whole.gguf", embd=32, layers=3)


def merged(path: Path, parts: tuple[Path, ...]) -> Header:
    with path.open("wb") as file:
        merge_parts(sort_parts(map(read_header, parts)), file.write)  # type: ignore[arg-type]
    return read_header(path, arrays=EveryArray())


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_parts_make_the_same_model(whole: Path, tmp_path: Path, count: int) -> None:
    parts = split_gguf(whole, count, into=tmp_path)
    assert all(map(is_part, map(read_header, parts)))
    header = merged(tmp_path / "merged.gguf", parts[::-1])
    expected = read_header(whole, arrays=EveryArray())
    assert not is_part(header)
    assert dict(header.values) == dict(expected.values)
    tensors = {t.name: np.array(t.data) for t in GGUFReader(header.path).tensors}
    for tensor in GGUFReader(whole).tensors:
        assert np.array_equal(tensors.pop(tensor.name), tensor.data)
    assert not tensors


def test_what_is_no_whole_model(whole: Path, tmp_path: Path) -> None:
    parts = [read_header(part) for part in split_gguf(whole, 4, into=tmp_path)]
    other = read_header(split_gguf(whole, 3, into=tmp_path)[2])
    for chosen, error in (
        (parts[:1] + parts[3:], r"^of 4 parts these are missing: 2, 3$"),
        (parts[1:], r"^of 4 parts these are missing: 1$"),
        ([*parts, parts[1]], r"^there are 5 files for 4 parts$"),
        ([*parts, other], r"^these are parts of different models$"),
    ):
        with pytest.raises(SplitError, match=error):
            sort_parts(chosen)
    fewer = split_gguf(write_llama(tmp_path / "fewer.gguf", embd=32, layers=1), 4)
    with pytest.raises(SplitError, match=r"^its parts hold \d+ tensors, and the first states 30$"):
        sort_parts([*parts[:3], read_header(fewer[3])])
