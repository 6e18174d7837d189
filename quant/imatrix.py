"""How is an importance matrix read: GGUF, or the older binary format of llama-imatrix?

A matrix says how strongly each input column of a weight is used: the mean square of its inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray

_MAGIC: Final = b"GGUF"
_SUMS, _COUNTS = ".in_sum2", ".counts"  # suffixes of the tensors of a GGUF file
_MAX_NAME_BYTES: Final = 1 << 12  # of a tensor; far above any real one

Column = NDArray[np.float32]


class ImatrixError(Exception):
    """A file is no importance matrix; the text names it and the problem."""


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """The importance of each column, by the name of the weight, such as "blk.0.ffn_up.weight"."""

    columns: Mapping[str, Column]  # of a mixture of experts, those of all experts in a row
    chunks: int  # pieces of text that it was measured on; 0 if unknown


def read_imatrix(path: Path) -> ImportanceMatrix:
    """The matrix in a file. Raises ImatrixError."""
    try:
        with path.open("rb") as file:
            is_gguf = file.read(len(_MAGIC)) == _MAGIC
        matrix = _read_gguf(path) if is_gguf else _read_binary(path.read_bytes())
    except OSError as error:
        raise ImatrixError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ImatrixError(f"{path} is no usable importance matrix: {error}") from error
    if not matrix.columns:
        raise ImatrixError(f"{path} is no usable importance matrix: it has no entries")
    for name, column in matrix.columns.items():
        if not np.isfinite(column).all():
            raise ImatrixError(f"{path} has values for {name} that are not finite")
    return matrix


def _read_gguf(path: Path) -> ImportanceMatrix:
    reader = GGUFReader(path)
    tensors = {tensor.name: np.asarray(tensor.data) for tensor in reader.tensors}
    names = [name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)]
    columns = {name: _mean(tensors[name + _SUMS], tensors[name + _COUNTS]) for name in names}
    field = reader.fields.get("imatrix.chunk_count")
    return ImportanceMatrix(columns, int(field.contents()) if field else 0)


def _mean(sums: NDArray[np.float32], counts: NDArray[np.float32]) -> Column:
    """The sums of each expert by its count; an expert that was never used weighs all alike."""
    if sums.dtype != np.float32 or counts.dtype != np.float32:
        raise ValueError("sums and counts are not F32")
    rows = sums.reshape(counts.size, -1)
    count = counts.reshape(-1, 1)
    mean = np.where(count > 0, rows / np.maximum(count, 1), np.float32(1))
    return np.ascontiguousarray(mean.ravel(), np.float32)


def _read_binary(data: bytes) -> ImportanceMatrix:
    """A count, then for each entry: its name with its length, calls, and values; then the chunks.

    All numbers are 32 bits wide and little-endian.
    """
    cursor = _Reader(data)
    columns = dict(_entry(cursor) for _ in range(cursor.number("the number of entries")))
    chunks = cursor.number("the number of chunks") if cursor.left else 0
    return ImportanceMatrix(columns, chunks)


def _entry(cursor: "_Reader") -> tuple[str, Column]:
    length = cursor.number("the length of a name")
    if length > _MAX_NAME_BYTES:
        raise ValueError(f"a name has {length} bytes, more than any tensor's")
    name = cursor.take(length, "a name").decode()
    calls = cursor.number(f"the calls of {name}")
    values = cursor.number(f"the number of values of {name}")
    sums = np.frombuffer(cursor.take(4 * values, f"the values of {name}"), "<f4")
    return name, (sums / np.float32(max(calls, 1))).astype(np.float32)


@dataclass(slots=True)
class _Reader:
    """A position in the bytes of a file."""

    data: bytes
    position: int = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int, what: str) -> bytes:
        if not 0 <= count <= self.left:
            raise ValueError(f"{what} needs {count} bytes, but {self.left} are left")
        start, self.position = self.position, self.position + count
        return self.data[start : self.position]

    def number(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little", signed=True)
