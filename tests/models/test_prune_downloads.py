"""Unfinished downloads are kept for a day, and go with the next clean-up of the store."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from outrider.models.sources.resumable import download_path
from outrider.models.store import Store

pytestmark = pytest.mark.unit

HOUR_S = 3600.0


@pytest.mark.parametrize(("age_s", "stays"), [(HOUR_S, True), (25 * HOUR_S, False)])
def test_an_old_unfinished_download_goes(tmp_path: Path, age_s: float, stays: bool) -> None:
    store = Store(tmp_path)
    path = download_path(store.blobs.root, "ab" * 32)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a beginning")
    os.utime(path, (time.time() - age_s,) * 2)
    store.prune()
    assert path.exists() is stays
