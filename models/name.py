"""How a model is named: `[scheme://][host/][namespace/]model[:tag]` (CONTRACT 6.3)."""

import re
from dataclasses import dataclass

from .errors import InvalidName

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

# Ollama takes hosts of up to 350 characters, but a file system no names of over 255 bytes.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,254}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_TAG = _MODEL


@dataclass(frozen=True, slots=True)
class Name:
    """A complete model name; each part is a safe file name."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        grammar = (_HOST, _NAMESPACE, _MODEL, _TAG)
        if not all(rule.fullmatch(part) for rule, part in zip(grammar, self.parts, strict=True)):
            raise InvalidName("invalid model name")

    @classmethod
    def parse(cls, text: str) -> "Name":
        """The name in `text`, with defaults for missing parts; raises InvalidName."""
        path, tag = _split_tag(_without_scheme(text.strip()))
        match path.split("/"):
            case [model]:
                return cls(DEFAULT_HOST, DEFAULT_NAMESPACE, model, tag)
            case [namespace, model]:
                return cls(DEFAULT_HOST, namespace, model, tag)
            case [host, namespace, model]:
                return cls(host, namespace, model, tag)
        raise InvalidName("invalid model name")

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Host, namespace, model and tag: the path below `manifests/` (CONTRACT 6.1)."""
        return self.host, self.namespace, self.model, self.tag

    @property
    def full(self) -> str:
        """The name with all parts."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """The name as shown to users: without default host and namespace, always with the tag."""
        if self.host != DEFAULT_HOST:
            return self.full
        if self.namespace != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    def same(self, other: "Name") -> bool:
        """Whether both name the same model: names differ in more than case."""
        return self.full.lower() == other.full.lower()

    def __str__(self) -> str:
        return self.short


def _without_scheme(text: str) -> str:
    scheme, found, rest = text.partition("://")
    if not found:
        return text
    if scheme.lower() not in ("http", "https"):
        raise InvalidName("invalid model name")
    return rest


def _split_tag(text: str) -> tuple[str, str]:
    """Path and tag; a colon before the last slash belongs to the host's port."""
    colon = text.rfind(":")
    if colon <= text.rfind("/"):
        return text, DEFAULT_TAG
    return text[:colon], text[colon + 1 :]
