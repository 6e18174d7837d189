"""Does the name in a request mean a model in the store, or one of a cloud (CONTRACT 1.1)?"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ...models.model import StoredModel
from ...models.name import Name
from ..errors import BadRequest, CloudDisabled, NotFound

LOCAL, CLOUD = ":local", ":cloud"  # suffixes of a name
CLOUD_TAG = "-cloud"  # how the tag of a cloud's model ends
CLOUD_HOST = "ollama.com"  # OLLAMA_REMOTES' default (CONTRACT 4)
NO_MODEL = "ollama cloud is disabled: remote model is unavailable"
NO_DETAILS = "ollama cloud is disabled: remote model details are unavailable"
OTHER_HOST = "this server cannot run this remote model"


@dataclass(frozen=True, slots=True)
class Reference:
    """A name as a client wrote it, without blanks around it and without `:local`."""

    name: Name
    literal: Name  # with `:local`, which may also be a tag
    is_local: bool  # whether the client wrote `:local`


def parse_reference(text: str, refusal: str = NO_MODEL) -> Reference:
    """The local model of that name.

    Raises InvalidName, BadRequest for two suffixes, and CloudDisabled with the text `refusal` for
    a model of a cloud.
    """
    text = text.strip()
    base = text.removesuffix(LOCAL)
    is_local = base != text
    if (is_local and _is_cloud(base)) or text.endswith(LOCAL + CLOUD):
        raise BadRequest(f'use either {LOCAL} or {CLOUD}, not both: "{text}"')
    if _is_cloud(text):
        raise CloudDisabled(refusal)
    return Reference(Name.parse(base), Name.parse(text), is_local)


def refuse_remote(model: StoredModel, reference: Reference, not_found: str, refusal: str) -> None:
    """Raises for a stub, which names a model on another host: NotFound with the text `not_found`
    if the client wants a local one, CloudDisabled with `refusal` for Ollama's cloud, or BadRequest.
    """
    host = model.config.remote_host
    if not host:
        return
    if reference.is_local:
        raise NotFound(not_found)
    if urlsplit(host if "://" in host else f"//{host}").hostname == CLOUD_HOST:
        raise CloudDisabled(refusal)
    raise BadRequest(OTHER_HOST)


def _is_cloud(text: str) -> bool:
    tag = text.rpartition("/")[2].partition(":")[2]
    return text.endswith(CLOUD) or tag.endswith(CLOUD_TAG)
