"""Is a store whole after a kill, and does nothing stay behind?"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Set
from pathlib import Path

from ollama_folder import files
from outrider.models.store import Store

DAYS_AGO_S = 200_000.0  # older than a download that is worth resuming (models/prune.py)


def assert_whole(store: Store, kept: Set[str], others: Set[str] = frozenset()) -> None:
    """Every manifest is that of a complete model; those of `kept` are there, and no more than those
    and `others`."""
    models = store.list()
    found = {model.name.short for model in models}
    assert kept <= found <= kept | others
    manifests = files(store.root / "manifests")
    assert len({path for path in manifests if not path.startswith(".")}) == len(models)
    for path in store.blobs.root.glob("sha256-*"):
        assert path.name == f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}"


def assert_nothing_grows(store: Store) -> None:
    """Days later nothing is left but manifests and the blobs that they name."""
    for folder in (store.blobs.root, store.root / "manifests"):
        for path in folder.rglob("*"):
            os.utime(path, (time.time() - DAYS_AGO_S,) * 2)
    deadline_s = time.monotonic() + 60
    store.prune()
    while leftovers(store) and time.monotonic() < deadline_s:
        time.sleep(0.02)  # an orphaned pip ends by itself, and holds its folder until then
        store.prune()
    assert not leftovers(store), leftovers(store)
    named = [blob.digest for m in store.list() for blob in store.manifest(m.name).blobs]
    blobs = {path.name for path in store.blobs.root.iterdir()}
    assert blobs == {digest.replace(":", "-") for digest in named}
    assert all(any(path.iterdir()) for path in store.root.rglob("*") if path.is_dir())


def leftovers(store: Store) -> list[Path]:
    folders = (store.root, store.blobs.root, store.root / "manifests")
    return [path for folder in folders for path in folder.glob(".outrider*")]
