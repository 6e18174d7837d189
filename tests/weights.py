"""How tests put a GGUF file into a store, in Ollama's own layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from outrider.models import manifest as media
from outrider.models.blobs import Blob, copy
from outrider.models.manifest import Manifest
from outrider.models.name import Name
from outrider.models.store import Store


def add_file(store: Store, path: Path) -> Blob:
    """A copy of the file as a blob; large files are never in memory as a whole."""
    with store.blobs.partial() as partial, path.open("rb") as source:
        copy(source, partial)
        return store.blobs.commit(partial)


def import_gguf(
    root: Path,
    name: str,
    gguf: Path,
    *,
    params: Mapping[str, object] | None = None,
    system: str = "",
    template: str = "",
    config: Mapping[str, object] | None = None,
    draft: Path | None = None,
) -> Path:
    """Make the file the model `name`; returns the blob's path."""
    store = Store(root)
    weights = add_file(store, gguf)
    layers = [weights.layer(media.MODEL)]
    if draft:
        layers.append(add_file(store, draft).layer(media.DRAFT))
    if params:
        layers.append(store.blobs.add_bytes(json.dumps(params).encode()).layer(media.PARAMS))
    if system:
        layers.append(store.blobs.add_bytes(system.encode()).layer(media.SYSTEM))
    if template:
        layers.append(store.blobs.add_bytes(template.encode()).layer(media.TEMPLATE))
    stated = store.blobs.add_bytes(json.dumps({"model_format": "gguf", **(config or {})}).encode())
    store.write(Name.parse(name), Manifest(stated.layer(media.CONFIG_TYPE), tuple(layers)))
    return store.blobs.path(weights.digest)
