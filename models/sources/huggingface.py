"""How a model is pulled from a repository on the Hugging Face hub, `hf.co/<user>/<repository>`."""

import asyncio
import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

from ...quant.gguf import GGUFError, Header, read_header
from ...quant.split import SplitError, merge_parts, sort_parts
from .. import manifest as media
from ..blobs import Blob
from ..errors import DamagedModel, PullFailed
from ..manifest import Layer, Manifest, dump_manifest
from ..model import Config, dump_config
from ..partial import Partial
from ..store import Store
from ..thread import in_thread
from .download import WrongDigest
from .failures import HttpRefused, Unreachable
from .hf_hub import Hub
from .hf_plan import HubPlan, HubPlanner
from .progress import PullProgress, Steps
from .reference import RemoteReference
from .registry import Network
from .resumable import ResumableFile
from .transfer import LayerTransfer, digest_of, discard_downloads
from .transport import HttpClient

_FIRST_TRIES: Final = 3  # of requests for which a user waits without any progress
_POLL_S: Final = 0.06  # seconds between two progress lines (CONTRACT 1.16)


async def pull(store: Store, reference: RemoteReference, network: Network) -> Steps:
    """Fetches the model into `store` and yields its progress; closing the generator stops it.

    The tag names a quantisation or a file. The store changes in the last step only; what has
    arrived before is kept for the next pull. Raises PullFailed, never before the first line.
    """
    yield PullProgress("pulling manifest")
    hub = Hub.of(os.environ)
    try:
        async with aclosing(_HubPull(store, reference, network, hub).run()) as steps:
            async for progress in steps:
                yield progress
    except (HttpRefused, Unreachable) as error:
        repository = f"{reference.name.namespace}/{reference.name.model}"
        raise PullFailed(f"pull model layer: {hub.word(error, repository)}") from error
    except WrongDigest as error:
        raise PullFailed(str(error)) from error
    except (GGUFError, SplitError) as error:
        raise PullFailed(f"{reference.name.short} cannot be used: {error}") from error
    except (OSError, DamagedModel) as error:
        raise PullFailed(f"the model cannot be stored in {store.root}: {error}") from error
    yield PullProgress("success")


@dataclass(frozen=True, slots=True)
class _HubPull:
    """One pull from a hub."""

    store: Store
    reference: RemoteReference
    network: Network
    hub: Hub

    async def run(self) -> Steps:
        """Chooses the files and pairs a drafter, then downloads and stores."""
        name = self.reference.name
        retry = replace(self.network.policy.retry, tries=_FIRST_TRIES)
        async with self._http() as http:
            planner = HubPlanner(self.hub, http, retry, self.store.blobs)
            plan, header = await planner.plan(f"{name.namespace}/{name.model}", name.tag)
            yield PullProgress(f"selected {plan.selection.model.label}")
            if plan.selection.projector:
                yield PullProgress(f"selected the projector {plan.selection.projector.path}")
            async with aclosing(planner.pair(plan, header)) as steps:
                async for progress in steps:
                    yield progress
        del header  # it holds the vocabulary
        async with aclosing(self._transfer(plan)) as steps:
            async for progress in steps:
                yield progress

    async def _transfer(self, plan: HubPlan) -> Steps:
        parts = plan.parts
        source = _source_of(self.reference, plan) if len(parts) > 1 else None
        joined = await in_thread(lambda _: self._find_joined(source)) if source else None
        weights = (joined,) if joined else parts
        transfer = LayerTransfer(
            store=self.store,
            layers=(*weights, *plan.others),
            locate=lambda layer: plan.locate(self.hub, layer),
            http=self._http,
            downloads=self.network.downloads,
            policy=self.network.policy,
            extra_bytes=sum(part.size_bytes for part in parts) if len(weights) > 1 else 0,
        )
        making = _HubInstall(self.store, self.reference, plan, transfer, weights, source)
        async with aclosing(transfer.run(making.run)) as steps:
            async for progress in steps:
                yield progress
        if len(parts) > 1:
            await in_thread(lambda _: discard_downloads(self.store.blobs.root, parts))

    def _find_joined(self, source: str) -> Layer | None:
        """The layer that was joined of the same parts before, for whichever name."""
        for model in self.store.list():
            if model.parent_model == source and model.model_path:
                digest = model.model_path.name.replace("-", ":")
                return Layer(media.MODEL, digest, model.model_path.stat().st_size, source)
        return None

    def _http(self) -> HttpClient:
        return self.network.client(insecure=self.hub.is_plain or self.reference.insecure)


@dataclass(frozen=True, slots=True)
class _HubInstall:
    """The last step of a pull: parts become one file, and all of it is stored."""

    store: Store
    reference: RemoteReference
    plan: HubPlan
    transfer: LayerTransfer
    weights: tuple[Layer, ...]
    source: str | None  # what a joined file is said to come from

    async def run(self, files: Sequence[ResumableFile]) -> Steps:
        with ExitStack() as stack:
            joined: Partial | None = None
            if len(self.weights) > 1:
                joined = stack.enter_context(self.store.blobs.partial())
                async with aclosing(self._join(joined)) as steps:
                    async for progress in steps:
                        yield progress
            yield PullProgress("verifying sha256 digest")
            yield PullProgress("writing manifest")
            removed = await in_thread(lambda _: self._write(files, joined))
            if removed:
                yield PullProgress("removing unused layers")

    async def _join(self, target: Partial) -> Steps:
        """Writes the parts as one file, as Ollama keeps models; cancelling stops that."""
        total = sum(layer.size_bytes for layer in self.weights)
        status = f"joining {len(self.weights)} parts"
        task = asyncio.create_task(in_thread(partial(self._merge, target)))
        try:
            while not task.done():
                yield PullProgress(
                    status, digest_of(self.weights[0]), total, target.size_bytes or None
                )
                await asyncio.wait({task}, timeout=_POLL_S)
            task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    def _merge(self, target: Partial, stop: Event) -> None:
        def write(data: bytes) -> None:
            if stop.is_set():
                raise SplitError("it was cancelled")
            target.write(data)

        headers = [read_header(self.transfer.path(layer)) for layer in self.weights]
        merge_parts(sort_parts(headers), write)
        target.flush()

    def _write(self, files: Sequence[ResumableFile], joined: Partial | None) -> int:
        """Stores blobs and manifest; returns how many blobs of a replaced model were removed."""
        weights = self.weights[0]
        if joined is not None:
            blob = Blob(joined.digest, joined.size_bytes)
            weights = blob.layer(media.MODEL, self.source)
        texts = [(Blob.of(data).layer(kind), data) for kind, data in self.plan.texts]
        layers = (weights, *self.plan.others, *(layer for layer, _ in texts))
        path = joined.path if joined is not None else self.transfer.path(weights)
        config = dump_config(self._config(read_header(path)), layers)
        manifest = Manifest(Blob.of(config).layer(media.CONFIG_TYPE), layers)

        def place() -> None:
            for data in (config, *(data for _, data in texts)):
                self.store.blobs.add_bytes(data)
            if joined is not None:
                self.store.blobs.commit(joined)
            stored = {digest_of(layer) for layer in layers}
            for file in files:
                if file.digest in stored:
                    file.commit(self.store.blobs.path(file.digest))

        return self.store.install(self.reference.name, dump_manifest(manifest), place)

    def _config(self, weights: Header) -> Config:
        config = Config.of(weights)
        projectors = [layer for layer in self.plan.others if layer.media_type == media.PROJECTOR]
        found = [read_header(self.transfer.path(layer)).architecture for layer in projectors]
        return replace(config, model_families=(*(config.model_families or ()), *found))


def _source_of(reference: RemoteReference, plan: HubPlan) -> str:
    """What a joined file comes from: its first part, and a hash of the digests of all parts."""
    digests = " ".join(digest_of(part) for part in plan.parts)
    key = hashlib.sha256(digests.encode()).hexdigest()[:12]
    path = Path(plan.selection.model.files[0].path).as_posix()
    return f"{reference.name.host}/{plan.repository.id}/{path}@{key}"
