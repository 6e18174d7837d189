"""Are the computed sizes those that llama.cpp allocates for tiny models, with their drafters?"""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.memory import GOAL, SNAPSHOTS, load_of, measure_loads
from bench.memory_subjects import TINY
from gemma_shapes import assistant_header, gemma_header, write_sparse
from harness import load_spec
from outrider.daemon.protocol import MAX_DRAFTS, MAX_MODEL_DRAFTS
from outrider.daemon.runner.llama import context as runner_context
from outrider.quant import draft_memory, kv_cache

pytestmark = pytest.mark.model

LOADS = (
    ("f16", {"batch": 512, "slots": 1, "cells": 32_768}),
    ("q8_0", {"batch": 128, "slots": 8, "cells": 8192}),
    ("f32", {"batch": 64, "slots": 4, "cells": 4096}),
)


@pytest.mark.parametrize("name", TINY)
def test_sizes_are_those_that_llama_cpp_allocates(
    tmp_path: Path, name: str, measurements: list[str]
) -> None:
    subject = TINY[name](tmp_path)
    for found in measure_loads([load_of(subject, kv_type, shape) for kv_type, shape in LOADS]):
        measurements.append(f"{name}: {found}")
        assert found.error < GOAL, found


def test_the_real_shape_of_gemma_4_with_its_drafter(tmp_path: Path) -> None:
    model = write_sparse(gemma_header("26B-A4B"), tmp_path / "m.gguf")
    draft = str(write_sparse(assistant_header("26B-A4B"), tmp_path / "d.gguf"))
    load = load_spec(model, kv_type="q8_0", cells=131_072, batch=512, draft=draft, speculation=2)
    (found,) = measure_loads([load], is_real=False)
    assert found.error < GOAL, found


def test_the_runner_makes_these_contexts() -> None:
    assert kv_cache.MAX_RELEASED == runner_context.MAX_RELEASED
    assert kv_cache.MAX_OUTPUTS == runner_context.MAX_OUTPUTS
    assert kv_cache.DRAFT_ROWS == 1 + MAX_DRAFTS
    assert draft_memory.DRAFTED_ROWS == 2 + MAX_MODEL_DRAFTS
    assert SNAPSHOTS == runner_context.RECURRENT_DRAFTS
