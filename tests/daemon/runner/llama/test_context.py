"""A decode that has returned is complete, so that its time is its cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import load_spec
from outrider.daemon.runner.batch import Batch
from outrider.daemon.runner.llama.context import lib
from outrider.daemon.runner.llama.interface import CLS, DECODED, LAST, MEAN, RANK
from outrider.daemon.runner.llama.loading import load_model
from tiny import write_llama

pytestmark = pytest.mark.model


def test_a_decode_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU llama_decode returns early; on a CPU only the calls show that decode waits."""
    loaded = load_model(load_spec(write_llama(tmp_path / "m.gguf")), lambda _fraction: None)
    context, called = loaded.context, []
    for name in ("llama_decode", "llama_synchronize"):
        call = getattr(lib, name)

        def spy(*args: object, name: str = name, call: object = call) -> object:
            called.append(name)
            assert callable(call)
            return call(*args)

        monkeypatch.setattr(lib, name, spy)
    rows = Batch(8)
    rows.add(0, 0, [1, 2, 3], outputs=1)
    assert context.decode(rows) == DECODED
    assert called == ["llama_decode", "llama_synchronize"]
    context.close()
    loaded.model.close()


def test_the_numbers_of_the_seam_are_those_of_llama_cpp() -> None:
    assert (MEAN, CLS, LAST, RANK) == (
        lib.LLAMA_POOLING_TYPE_MEAN,
        lib.LLAMA_POOLING_TYPE_CLS,
        lib.LLAMA_POOLING_TYPE_LAST,
        lib.LLAMA_POOLING_TYPE_RANK,
    )
