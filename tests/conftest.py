"""Fixtures for every test: a store with the real model, a running daemon, measured figures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from daemons import Daemon, start_daemon
from outrider.daemon.runners.process import RUNNER_ENV
from scripted_models import import_scripted
from tiny import write_llama
from weights import import_gguf

MODEL = "smollm2:135m"
TIERS = {"unit", "model", "contract", "sim", "clients", "long"}  # tests/README.md
MEASUREMENTS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    os.environ.update(RUNNER_ENV)  # some tests run the engine in this process
    # A shell's background job ignores SIGINT, and so would every process that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[MEASUREMENTS] = []
    # The same examples in each run, none kept in a folder, and no limit on a busy machine.
    hypothesis.settings.register_profile("outrider", derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("outrider")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raises UsageError if a test is not in exactly one tier: no target would run it, or two."""
    for item in items:
        tiers = TIERS & {mark.name for mark in item.iter_markers()}
        if len(tiers) != 1:
            raise pytest.UsageError(f"{item.nodeid} has tiers {sorted(tiers)}, not exactly one")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints measured figures, which are not asserted because machines differ."""
    if lines := terminalreporter.config.stash[MEASUREMENTS]:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture
def measurements(request: pytest.FixtureRequest) -> list[str]:
    """Lines to print after the test run."""
    return request.config.stash[MEASUREMENTS]


@pytest.fixture(scope="session")
def weights_store() -> Path:
    """A store with the real model, pulled once per machine by the code that users run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = cache / "outrider" / "test-models"
    fetch = f"""
import asyncio, pathlib
from outrider.daemon.app import ensure
from outrider.daemon.cli.progress import follow
from outrider.models.store import Store
asyncio.run(ensure(Store(pathlib.Path({str(root)!r})), {MODEL!r}, follow))
"""
    subprocess.run([sys.executable, "-c", fetch], check=True, timeout=600)
    return root


@pytest.fixture(scope="session")
def store_root(weights_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store for this test run: the real model (linked, not copied), a tiny one, and scripted
    ones."""
    root = tmp_path_factory.mktemp("models")
    for source in weights_store.rglob("*"):
        if source.is_file():
            target = root / source.relative_to(weights_store)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(source) if _same_disk(source, root) else target.symlink_to(source)
    folder = tmp_path_factory.mktemp("gguf")
    import_gguf(root, "tiny", write_llama(folder / "tiny.gguf", seed=1))
    import_scripted(root, folder)
    return root


@pytest.fixture(scope="session")
def daemon(store_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The daemon that most tests use; started once, on a free port."""
    with start_daemon(store_root, tmp_path_factory.mktemp("daemon")) as running:
        yield running


def _same_disk(source: Path, folder: Path) -> bool:
    return source.stat().st_dev == folder.stat().st_dev
