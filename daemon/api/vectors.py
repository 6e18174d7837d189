"""How do the vectors of an embedding look in an answer?

Imported when the first vectors are there: numpy takes a tenth of a second and 12 MiB.
"""

from __future__ import annotations

from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

from ..errors import BadRequest

SMALLEST_NORM = 1e-12  # keeps a vector of zeros one of zeros

Vectors = NDArray[np.float32]  # a row for each text


def unpack(rows: bytes, width: int) -> Vectors:
    """The vectors of little-endian float32, `width` each.

    Raises BadRequest for numbers that JSON cannot express.
    """
    vectors: Vectors = np.frombuffer(rows, "<f4").reshape(-1, width)
    if not np.isfinite(vectors).all():
        raise BadRequest("embedding contains NaN or Inf values")
    return vectors


def normalise(vectors: Vectors, dimensions: int) -> Vectors:
    """Each vector scaled to length 1, after it was cut to `dimensions` (0: all) floats."""
    if dimensions > 0:
        vectors = vectors[:, :dimensions]
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.maximum(norms, SMALLEST_NORM)).astype(np.float32)
    return scaled


def encode(vectors: Vectors) -> list[str]:
    """Each vector as base64 of little-endian float32."""
    return [b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
