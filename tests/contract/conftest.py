"""A front without weights for the facts that need no daemon."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from front import Front, fill_store, start_front


@pytest.fixture(scope="session")
def facts_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of header-only models; tests add to it under names of their own."""
    return fill_store(tmp_path_factory.mktemp("facts"), tmp_path_factory.mktemp("gguf"))


@pytest.fixture
async def front(facts_store: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    for name in [name for name in os.environ if name.startswith(("OUTRIDER_", "OLLAMA_"))]:
        monkeypatch.delenv(name)
    async with start_front(facts_store) as running:
        yield running
