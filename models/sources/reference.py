"""What the text of a pull or push names: a model, its registry, and how that is reached."""

from dataclasses import dataclass

from ..name import Name


@dataclass(frozen=True, slots=True)
class RemoteReference:
    """A model and how its registry is reached: over plain HTTP only if `insecure`."""

    name: Name
    scheme: str = "https"
    insecure: bool = False

    @classmethod
    def parse(cls, text: str, *, insecure: bool = False) -> "RemoteReference":
        """The reference in `text`; `insecure` changes the default scheme. Raises InvalidName."""
        scheme, found, _ = text.strip().partition("://")
        default = "http" if insecure else "https"
        return cls(Name.parse(text), scheme.lower() if found else default, insecure)

    @property
    def repository(self) -> str:
        """The URL of the repository, below which are manifests and blobs (CONTRACT 6.4)."""
        name = self.name
        return f"{self.scheme}://{name.host}/v2/{name.namespace}/{name.model}"


def is_cloud(name: Name) -> bool:
    """Whether the name is that of a model that runs elsewhere (CONTRACT 1.1)."""
    return name.tag.lower() == "cloud" or name.tag.lower().endswith("-cloud")
