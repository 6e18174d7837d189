"""Are the tables of quant/README.md what is computed, from headers of the published sizes?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gemma_shapes import Q4_0, Q4_K_M, Q8_0, SHAPES, assistant_header, gemma_header, parameters
from gemma_table import comparison, fits

pytestmark = pytest.mark.model  # for its duration: hundreds of sizes are computed

README = Path(__file__).parents[2] / "quant" / "README.md"
# Published sizes of files, 10^9 bytes, and of models, 10^9 weights.
PUBLISHED = {
    "31B": (30.7, 18.5, 17.3),
    "26B-A4B": (25.2, 16.8, 14.2),
    "12B": (11.95, 7.12, 6.72),
    "E4B": (7.5, 5.3, 4.22),
    "E2B": (4.65, 3.41, 2.62),
}
DRAFTERS = {"31B": 0.5, "26B-A4B": 0.441, "12B": 0.45}  # Q8_0


@pytest.mark.parametrize("size", SHAPES)
def test_made_headers_have_the_published_sizes(size: str) -> None:
    weights, q4_k_m, qat = PUBLISHED[size]
    assert parameters(gemma_header(size)) / 1e9 == pytest.approx(weights, rel=0.01)
    assert gemma_header(size, Q4_K_M).size_bytes / 1e9 == pytest.approx(q4_k_m, rel=0.04)
    assert gemma_header(size, Q4_0).size_bytes / 1e9 == pytest.approx(qat, rel=0.01)


@pytest.mark.parametrize("size", DRAFTERS)
def test_made_drafters_have_the_published_sizes(size: str) -> None:
    assert assistant_header(size, Q8_0).size_bytes / 1e9 == pytest.approx(DRAFTERS[size], rel=0.02)


@pytest.mark.parametrize("lines", [fits, comparison])
def test_the_readme_has_the_computed_tables(lines: Callable[[], Iterator[str]]) -> None:
    assert "\n".join(lines()) in README.read_text(), "python -m gemma_table prints them anew"
