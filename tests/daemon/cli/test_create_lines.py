"""The progress lines of a create whose base model has to be fetched first."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from outrider.daemon.api.ollama import create
from outrider.daemon.api.streaming import Line
from outrider.models.create_spec import CreateSpec
from outrider.models.name import Name
from outrider.models.store import Store
from tiny import write_llama
from weights import import_gguf

pytestmark = pytest.mark.unit


async def test_a_missing_base_is_fetched_and_success_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pull(store: Store, name: Name) -> AsyncGenerator[Line, None]:
        yield {"status": "pulling manifest"}
        import_gguf(store.root, name.short, write_llama(tmp_path / "base.gguf", embd=32))
        yield {"status": "success"}

    monkeypatch.setattr(create, "report", pull)
    store = Store(tmp_path / "models")
    order = CreateSpec(name=Name.parse("made"), base=Name.parse("base"), system="be kind")
    sent = [line["status"] async for line in create._lines(store, order)]
    assert sent[0] == "pulling manifest"
    assert sent.count("success") == 1
    assert sent[-2:] == ["writing manifest", "success"]
    assert store.resolve("made").system == "be kind"
    again = [line["status"] async for line in create._lines(store, order)]
    assert "pulling manifest" not in again
