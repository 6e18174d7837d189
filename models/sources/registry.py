"""How a model is pulled from a registry: manifest, layers, install (CONTRACT 6.4)."""

import hashlib
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from .. import manifest as media
from ..errors import DamagedModel, PullFailed
from ..manifest import Layer, Manifest, parse_manifest
from ..model import Config
from ..store import Store
from ..thread import in_thread
from .download import (
    DownloadPolicy,
    RemoteFile,
    SharedDownloads,
    WrongDigest,
)
from .failures import HttpRefused, Unreachable, word_refusal, word_unreachable
from .progress import PullProgress, Steps
from .reference import RemoteReference
from .resumable import ResumableFile
from .token import FindKey, RegistryCredentials, RequestSigner
from .transfer import LayerTransfer, digest_of, pulling
from .transport import HttpClient

AGENT: Final = "ollama/0.33.0 (amd64 linux) outrider"  # registries check the version (CONTRACT 6.4)
_MANIFEST_BYTES: Final = 4 << 20  # of a manifest or config at most
_FIRST_TRIES: Final = 3  # of the first request, for which a user waits without any progress


def _users_key() -> RequestSigner | None:
    from .keys import find_key  # cryptography takes a while, and few registries ask for a key

    return find_key()


@dataclass(frozen=True, slots=True)
class Network:
    """What pulls of one process share."""

    downloads: SharedDownloads = field(default_factory=SharedDownloads)
    policy: DownloadPolicy = field(default_factory=DownloadPolicy)
    find_key: FindKey = _users_key

    def client(self, *, insecure: bool) -> HttpClient:
        """A client for one transfer; use it as a context manager."""
        return HttpClient(insecure=insecure, stall_s=self.policy.stall_s, agent=AGENT)


@dataclass(frozen=True, slots=True)
class _RegistryModel:
    """A model as its registry describes it; `data` are the bytes of the manifest."""

    data: bytes
    manifest: Manifest
    config: bytes

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every blob but the config, each once, in the manifest's order."""
        config = self.manifest.config.digest
        found = {layer.digest: layer for layer in self.manifest.layers if layer.digest != config}
        return tuple(found.values())


async def pull(store: Store, reference: RemoteReference, network: Network) -> Steps:
    """Fetches the model into `store` and yields its progress; closing the generator stops it.

    The store changes in the last step only; what has arrived before is kept for the next pull.
    Raises PullFailed, never before the first line.
    """
    yield PullProgress("pulling manifest")
    credentials = RegistryCredentials(reference.name.host, network.find_key)
    try:
        model = await _describe(reference, credentials, network)
        transfer = _RegistryPull(store, reference, credentials, network, model)
        async with aclosing(transfer.run()) as steps:
            async for progress in steps:
                yield progress
    except HttpRefused as refused:
        raise PullFailed(f"pull model layer: {refused.advised}") from refused
    except Unreachable as error:
        raise PullFailed(f"pull model layer: {error.advised}") from error
    except WrongDigest as error:
        raise PullFailed(str(error)) from error
    except (OSError, DamagedModel) as error:
        raise PullFailed(f"the model cannot be stored in {store.root}: {error}") from error
    yield PullProgress("success")


async def _describe(
    reference: RemoteReference, credentials: RegistryCredentials, network: Network
) -> _RegistryModel:
    """The manifest and the config; refuses what this machine cannot run."""
    retry = replace(network.policy.retry, tries=_FIRST_TRIES)
    accept = {"Accept": media.MANIFEST_TYPE}
    url = f"{reference.repository}/manifests/{reference.name.tag}"
    try:
        async with network.client(insecure=reference.insecure) as http:
            data = await retry.run(
                lambda: http.read(
                    url, credentials=credentials, headers=accept, limit_bytes=_MANIFEST_BYTES
                )
            )
            manifest = parse_manifest(data)
            _check_layers(manifest)
            blob = f"{reference.repository}/blobs/{manifest.config.digest}"
            config = await retry.run(
                lambda: http.read(blob, credentials=credentials, limit_bytes=_MANIFEST_BYTES)
            )
    except HttpRefused as refused:
        raise PullFailed(f"pull model manifest: {word_refusal(refused)}") from refused
    except Unreachable as error:
        raise PullFailed(f"pull model manifest: {word_unreachable(error)}") from error
    except DamagedModel as error:
        raise PullFailed(f"pull model manifest: {error}") from error
    _check_config(reference, manifest.config, config)
    return _RegistryModel(data, manifest, config)


def _check_layers(manifest: Manifest) -> None:
    for layer in manifest.blobs:
        if layer.size_bytes < 0:
            raise DamagedModel(f"the size of layer {layer.digest} is {layer.size_bytes}")


def _check_config(reference: RemoteReference, layer: Layer, data: bytes) -> None:
    """Refuses a config that is not what the manifest names, and models that do not run here."""
    got = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if got != digest_of(layer):
        raise PullFailed(str(WrongDigest(layer.digest, got)))
    try:
        config = msgspec.json.decode(data, type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PullFailed(f"the config of {reference.name.short} is not readable: {error}") from None
    if config.remote_host or config.remote_model:
        raise PullFailed(
            f"model '{reference.name.short}' has no weights: it runs as '{config.remote_model}' on "
            f"{config.remote_host or 'another host'}, and remote models are not supported; pull a "
            "model with weights"
        )
    if config.model_format == "safetensors":
        raise PullFailed(
            "this model requires MLX support, but the MLX runtime is not available; "
            "pull a GGUF build of it"
        )


@dataclass(frozen=True, slots=True)
class _RegistryPull:
    """One pull of a model whose manifest is known."""

    store: Store
    reference: RemoteReference
    credentials: RegistryCredentials
    network: Network
    model: _RegistryModel

    async def run(self) -> Steps:
        """Downloads what is missing, then stores it all in one step under the store's lock."""
        transfer = LayerTransfer(
            store=self.store,
            layers=self.model.layers,
            locate=self._locate,
            http=lambda: self.network.client(insecure=self.reference.insecure),
            downloads=self.network.downloads,
            policy=self.network.policy,
        )
        async with aclosing(transfer.run(self._install)) as steps:
            async for progress in steps:
                yield progress

    def _locate(self, layer: Layer) -> RemoteFile:
        url = f"{self.reference.repository}/blobs/{layer.digest}"
        return RemoteFile(url, digest_of(layer), layer.size_bytes, self.credentials)

    async def _install(self, files: Sequence[ResumableFile]) -> Steps:
        yield pulling(self.model.manifest.config, self.model.manifest.config.size_bytes)
        yield PullProgress("verifying sha256 digest")
        yield PullProgress("writing manifest")
        removed = await in_thread(lambda _: self._write(files))
        if removed:
            yield PullProgress("removing unused layers")

    def _write(self, files: Sequence[ResumableFile]) -> int:
        """Stores blobs and manifest; returns how many blobs of a replaced model were removed."""

        def place() -> None:
            self.store.blobs.add_bytes(self.model.config)
            for file in files:
                file.commit(self.store.blobs.path(file.digest))

        return self.store.install(self.reference.name, self.model.data, place)
