"""How tests get importance matrices, in both formats of llama-imatrix."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

Sums = Mapping[str, NDArray[np.float32]]


def write_binary(path: Path, sums: Sums, calls: int) -> Path:
    """The older format of llama-imatrix."""
    data = struct.pack("<i", len(sums))
    for name, values in sums.items():
        data += struct.pack("<i", len(name)) + name.encode()
        data += struct.pack("<ii", calls, values.size) + values.astype("<f4").tobytes()
    path.write_bytes(data + struct.pack("<i", 7) + struct.pack("<i", 4) + b"text")
    return path


def write_imatrix(path: Path, sums: Sums, counts: Mapping[str, list[float]]) -> Path:
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["text"])
    writer.add_uint32("imatrix.chunk_count", 7)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, values in sums.items():
        count = np.array(counts[name], np.float32)
        writer.add_tensor(f"{name}.in_sum2", values.reshape(count.size, -1))
        writer.add_tensor(f"{name}.counts", count.reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
