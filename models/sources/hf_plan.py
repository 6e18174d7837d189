"""Which layers does a model of the Hugging Face hub get, and which drafter is paired with it?"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ...quant.gguf import GGUFError, Header, read_header
from .. import manifest as media
from ..blobs import Blob, Blobs
from ..errors import PullFailed
from ..manifest import Layer
from .download import RemoteFile
from .failures import HttpRefused, Unreachable
from .hf_drafters import TOKENS, drafted_width, find_misfit, is_model, named_drafters
from .hf_header import read_remote_header
from .hf_hub import Hub, HubFile, HubRepository
from .hf_selection import Selection, drafters_of, select_files
from .progress import PullProgress, Steps
from .retry import RetryPolicy
from .transport import HttpClient

README = "README.md"
_TEXT_TYPES = {"template": media.TEMPLATE, "system": media.SYSTEM, "params": media.PARAMS}


@dataclass(slots=True)
class HubPlan:
    """What is stored of a repository: files by their layers, and small texts."""

    repository: HubRepository
    selection: Selection
    drafter: tuple[HubRepository, HubFile] | None = None
    texts: list[tuple[str, bytes]] = field(default_factory=list)  # media type and content

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The weights, in as many layers as there are files."""
        return tuple(_layer(media.MODEL, file) for file in self.selection.model.files)

    @property
    def others(self) -> tuple[Layer, ...]:
        """The projector and the drafter, as far as there are any."""
        projector, drafter = self.selection.projector, self.drafter
        return (
            *([_layer(media.PROJECTOR, projector)] if projector else []),
            *([_layer(media.DRAFT, drafter[1])] if drafter else []),
        )

    def locate(self, hub: Hub, layer: Layer) -> RemoteFile:
        """Where the content of a layer is downloaded from."""
        projector = self.selection.projector
        files = [(self.repository, file) for file in self.selection.model.files]
        files += [(self.repository, projector)] if projector else []
        files += [self.drafter] if self.drafter else []
        for repository, file in files:
            if file.digest == layer.digest:
                return hub.remote(repository, file)
        raise PullFailed(f"{layer.digest} was removed while it was needed; pull the model again")


@dataclass(frozen=True, slots=True)
class HubPlanner:
    """Reads what must be known before the download; a stored blob is read where it lies."""

    hub: Hub
    http: HttpClient
    retry: RetryPolicy
    blobs: Blobs

    async def plan(self, repository: str, tag: str) -> tuple[HubPlan, Header]:
        """The chosen files, yet without drafter, and the header of the weights.

        Raises PullFailed with what to do.
        """
        found = await self.hub.list(self.http, self.retry, repository)
        plan = HubPlan(found, select_files(found, tag))
        try:
            header = await self._header(found, plan.selection.model.files[0])
            for file in plan.selection.texts:
                data = await self.hub.read(self.http, self.retry, found, file)
                plan.texts.append((_TEXT_TYPES[file.name], _checked(file, data)))
        except (HttpRefused, Unreachable) as error:
            text = self.hub.word(error, found.id, is_gated=found.is_gated)
            raise PullFailed(f"pull model manifest: {text}") from error
        except GGUFError as error:
            raise PullFailed(f"{found.id} cannot be used: {error}") from error
        if not is_model(header):
            raise PullFailed(
                f"{plan.selection.model.label} of {found.id} holds no weights of a model; name a "
                "file that does with the tag"
            )
        return plan, replace(header, size_bytes=plan.selection.model.size_bytes)

    async def pair(self, plan: HubPlan, target: Header) -> Steps:
        """Sets the first drafter that fits, and says of each that was looked at why or why not."""
        async for repository, file in self._candidates(plan, target):
            where = "" if repository is plan.repository else f" of {repository.id}"
            try:
                drafter = await self._header(repository, file)
                misfit = find_misfit(target, drafter)
            except (GGUFError, HttpRefused, Unreachable) as error:
                misfit = f"its header cannot be read: {error}"
            if not misfit:
                plan.drafter = repository, file
                yield PullProgress(
                    f"paired with the drafter {file.path}{where}: {drafter.architecture}, made for "
                    f"a hidden width of {drafted_width(drafter)}, with the same vocabulary"
                )
                return
            yield PullProgress(f"not paired with {file.path}{where}: {misfit}")

    async def _candidates(
        self, plan: HubPlan, target: Header
    ) -> AsyncIterator[tuple[HubRepository, HubFile]]:
        """Drafters of the repository, then those of repositories that its model card names.

        There are none for a model that is a drafter itself.
        """
        if target.architecture.endswith("-assistant"):
            return
        for group in plan.selection.drafters:
            yield plan.repository, group.files[0]
        for name in named_drafters(plan.repository.id, *await self._card(plan.repository)):
            try:
                other = await self.hub.list(self.http, self.retry, name)
            except PullFailed:  # a card may name what is gone or private; the model is whole anyway
                continue
            for group in drafters_of(other):
                yield other, group.files[0]

    async def _card(self, repository: HubRepository) -> tuple[dict[str, object], str]:
        """The data and the text of the model card, as far as there are any."""
        file = repository.find(README)
        data = dict(repository.card)
        try:
            text = await self.hub.read(self.http, self.retry, repository, file) if file else b""
        except (HttpRefused, Unreachable):
            text = b""
        return data, text.decode(errors="replace")

    async def _header(self, repository: HubRepository, file: HubFile) -> Header:
        stored = self._stored(file)
        if stored is not None:
            return read_header(stored, arrays={TOKENS})
        remote = self.hub.remote(repository, file)
        return await read_remote_header(self.http, self.retry, remote, arrays={TOKENS})

    def _stored(self, file: HubFile) -> Path | None:
        if file.digest is None or not self.blobs.has(file.digest, file.size_bytes):
            return None
        return self.blobs.path(file.digest)


def _layer(media_type: str, file: HubFile) -> Layer:
    if file.digest is None:
        raise PullFailed(
            f"the hub states no sha256 of {file.path}, so it cannot be checked; its publisher has "
            "to store it with git LFS"
        )
    return Blob(file.digest, file.size_bytes).layer(media_type)


def _checked(file: HubFile, data: bytes) -> bytes:
    """The text of a file; raises PullFailed for parameters that are no JSON object."""
    if file.name != "params":
        return data
    try:
        msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PullFailed(f"the file params of the repository is not readable: {error}") from error
    return data
