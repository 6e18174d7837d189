"""Are importance matrices read in both formats, and damaged ones refused?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from imatrices import Sums, write_binary, write_imatrix
from outrider.quant.imatrix import ImatrixError, read_imatrix

pytestmark = pytest.mark.unit

SUMS: Sums = {"blk.0.ffn_up.weight": np.array([4, 8, 12], np.float32)}


def test_the_binary_format_is_a_mean_over_the_calls(tmp_path: Path) -> None:
    matrix = read_imatrix(write_binary(tmp_path / "imatrix.dat", SUMS, calls=4))
    assert matrix.columns["blk.0.ffn_up.weight"].tolist() == [1, 2, 3]
    assert matrix.chunks == 7


def test_the_gguf_format_is_a_mean_for_each_expert(tmp_path: Path) -> None:
    name = "blk.0.ffn_up_exps.weight"
    sums = {name: np.array([4, 8, 5, 5], np.float32)}
    matrix = read_imatrix(write_imatrix(tmp_path / "i.gguf", sums, {name: [4, 0]}))
    assert matrix.columns[name].tolist() == [1, 2, 1, 1]  # the second expert was never used
    assert matrix.chunks == 7


@pytest.mark.parametrize("size", [0, 3, 10, 40])
def test_a_cut_file_is_refused(size: int, tmp_path: Path) -> None:
    path = write_binary(tmp_path / "imatrix.dat", SUMS, calls=4)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ImatrixError, match="no usable importance matrix"):
        read_imatrix(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImatrixError, match="cannot be read"):
        read_imatrix(tmp_path / "absent")
    (tmp_path / "text").write_text("this is no importance matrix, as anybody sees")
    with pytest.raises(ImatrixError, match="no usable importance matrix"):
        read_imatrix(tmp_path / "text")
    infinite = {"a.weight": np.array([np.inf], np.float32)}
    with pytest.raises(ImatrixError, match="not finite"):
        read_imatrix(write_binary(tmp_path / "inf.dat", infinite, calls=1))
