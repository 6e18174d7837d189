"""What may be stated of a new model (CONTRACT 7.4)?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..quant.types import FileType
from .name import Name
from .uploads import Files

Params = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSpec:
    """The contents of a new model; an empty field is inherited from `base`."""

    name: Name
    base: Name | None = None
    files: Files = field(default_factory=dict)
    draft_files: Files = field(default_factory=dict)
    draft: Name | None = None  # a model whose weights are the drafter
    adapters: Files = field(default_factory=dict)
    quantize: FileType | None = None  # of the weights; None leaves them as they are
    draft_quantize: FileType | None = None  # of the drafter's weights
    template: str = ""
    system: str = ""
    params: Params = field(default_factory=dict)
    messages: tuple[Mapping[str, object], ...] = ()
    licenses: tuple[str, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)  # fields of the config, by their names
