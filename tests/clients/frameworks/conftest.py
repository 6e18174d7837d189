"""What do the frameworks of others need: their packages, their warnings, a daemon with models?"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Daemon, start_daemon
from scripted_models import import_scripted
from tiny import write_llama
from tiny_bert import write_bert
from tiny_scripted import write_scripted
from weights import import_gguf

TINY, SECOND, BERT = "tiny", "second", "bert"
PACKAGES = {  # of `make test-clients`, by the file that uses them
    "test_langchain.py": ("langchain_ollama", "langchain_tests"),
    "test_litellm.py": ("litellm",),
    "test_llama_index.py": ("llama_index.llms.ollama",),
    "test_llm.py": ("llm_ollama",),
    "test_pydantic_ai.py": ("pydantic_ai",),
}


def _is_missing(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is None
    except ModuleNotFoundError:  # the package that it is in
        return True


collect_ignore = [file for file, names in PACKAGES.items() if any(map(_is_missing, names))]
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it is fetched at the import


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Frameworks warn of themselves; those are not our errors."""
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the scripted models and `second`, which always says "B"; `tiny` is random."""
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    import_scripted(root, folder)
    import_gguf(root, TINY, write_llama(folder / "tiny.gguf", seed=1))
    import_gguf(root, SECOND, write_scripted(folder / "second.gguf", "B"))
    import_gguf(root, BERT, write_bert(folder / "bert.gguf"))
    with start_daemon(root, tmp_path_factory.mktemp("daemon")) as running:
        yield running
