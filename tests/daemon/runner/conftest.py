"""What the tests of the runner may use: a tiny model, for those that need its vocabulary."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import load_spec
from outrider.daemon.runner.llama.loading import load_model
from outrider.daemon.runner.llama.model import LlamaModel
from tiny import write_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    gguf = write_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf", seed=1)
    loaded = load_model(load_spec(gguf), lambda _fraction: None)
    yield loaded.model
    loaded.context.close()
    loaded.model.close()
