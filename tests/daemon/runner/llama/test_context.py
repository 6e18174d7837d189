"""A decode that has returned is over, so that its time is what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import load_spec
from outrider.daemon.runner.batch import Batch
from outrider.daemon.runner.llama.context import lib
from outrider.daemon.runner.llama.interface import DECODED
from outrider.daemon.runner.llama.loading import load_model
from tiny import write_llama

pytestmark = pytest.mark.model


def test_a_decode_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it would go on by itself; a processor says nothing of that but by what is called."""
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
