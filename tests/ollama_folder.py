"""How tests get a models folder that Outrider did not write: laid out by hand as Ollama does."""

import hashlib
import json
import os
from pathlib import Path

MEDIA = "application/vnd.ollama.image."
CONFIG = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"]}


def put_blob(root: Path, data: bytes) -> str:
    """The digest of `data`, which now lies in the blobs folder."""
    sha256 = hashlib.sha256(data).hexdigest()
    path = root / "blobs" / f"sha256-{sha256}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"sha256:{sha256}"


def put_model(
    root: Path,
    path: str,
    layers: list[tuple[str, bytes]],
    *,
    config: dict[str, object] | None = None,
    modified_s: float | None = None,
    source: str | None = None,
) -> Path:
    """Writes a model of (media type ending, content); `path` is `host/namespace/model/tag`."""
    described = [_layer(root, MEDIA + kind, data) for kind, data in layers]
    if source is not None:
        described[0]["from"] = source
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _layer(
            root,
            "application/vnd.docker.container.image.v1+json",
            json.dumps(config or CONFIG).encode(),
        ),
        "layers": described,
    }
    target = root / "manifests" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(manifest))
    if modified_s is not None:
        os.utime(target, (modified_s, modified_s))
    return target


def files(root: Path) -> set[str]:
    """Every file below `root`, as a relative path."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def _layer(root: Path, media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": put_blob(root, data), "size": len(data)}
