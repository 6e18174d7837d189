"""Which pairs of a model and its drafter can be measured, and with which prompts?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outrider.models.scratch import scratch
from tiny_gemma import write_gemma4, write_gemma4_assistant
from weights import import_gguf

from .alone import COPIED, ensure_alone
from .moe import ensure_moe_pair
from .pair import ensure_pair

TINY = "tiny-gemma4-pair"


@dataclass(frozen=True, slots=True)
class Pair:
    """A model in the store, with or without a drafter."""

    ensure: Callable[[Path], str]  # makes it in the store at that path; returns its name
    spec_type: str = ""  # llama-server's --spec-type for its drafter
    prompts: Mapping[str, str] = field(default_factory=dict)  # by kind, in place of the usual ones


def ensure_tiny_pair(store_root: Path) -> str:
    """Random weights with an MTP drafter; made anew each time, which is fast."""
    with scratch(store_root) as room:
        target = write_gemma4(room.path / "tiny.gguf")
        drafter = write_gemma4_assistant(room.path / "assistant.gguf", target)
        import_gguf(store_root, TINY, target, draft=drafter)
    return TINY


PAIRS: Mapping[str, Pair] = {
    "qwen": Pair(ensure_pair, "draft-simple"),
    "moe": Pair(ensure_moe_pair, "draft-simple"),
    "tiny": Pair(ensure_tiny_pair, "draft-mtp"),
    "ngram": Pair(ensure_alone, prompts={"edit": COPIED}),
}
