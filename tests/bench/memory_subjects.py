"""Which models show whether sizes are predicted well? One for each kind of cache and of drafter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gemma_shapes import SHAPES, assistant_header, gemma_header, write_sparse
from model_shapes import NAMES, QWEN35, VOCABULARIES, model_header
from tiny import write_llama
from tiny_eagle import write_eagle3
from tiny_gemma import write_gemma3, write_gemma4, write_gemma4_assistant
from tiny_gptoss import write_gptoss
from tiny_recurrent import write_mamba, write_qwen35


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure, and what drafts for it."""

    model: Path
    draft: Path | None = None
    mtp: bool = False
    is_sparse: bool = False  # without data: it cannot be loaded but dry


def _llama(folder: Path, *, layers: int = 4) -> Path:
    return write_llama(folder / f"llama{layers}.gguf", layers=layers, heads=2, heads_kv=1)


def _with_draft(folder: Path) -> Subject:
    return Subject(_llama(folder), _llama(folder, layers=1))


def _with_eagle(folder: Path) -> Subject:
    """So wide that the head's keys fit the blocks of a quantised cache."""
    model = write_llama(folder / "wide.gguf", layers=4, embd=128)
    return Subject(model, write_eagle3(folder / "eagle.gguf", model))


def _with_assistant(folder: Path) -> Subject:
    model = write_gemma4(folder / "gemma4.gguf")
    return Subject(model, write_gemma4_assistant(folder / "assistant.gguf", model))


def _shared(folder: Path) -> Subject:
    path = folder / "shared.gguf"
    return Subject(write_gemma4(path, layers=6, shared_kv_layers=2, per_layer_embd=16))


TINY: Mapping[str, Callable[[Path], Subject]] = {
    "llama": lambda folder: Subject(_llama(folder)),
    "llama, draft model": _with_draft,
    "llama, EAGLE-3": _with_eagle,
    "gemma3": lambda folder: Subject(write_gemma3(folder / "gemma3.gguf")),
    "gemma4": lambda folder: Subject(write_gemma4(folder / "gemma4.gguf")),
    "gemma4, MTP": _with_assistant,
    "gemma4, shared KV": _shared,
    "gemma4, experts": lambda folder: Subject(write_gemma4(folder / "experts.gguf", experts=4)),
    "gpt-oss": lambda folder: Subject(write_gptoss(folder / "gpt-oss.gguf")),
    "qwen35": lambda folder: Subject(write_qwen35(folder / "qwen35.gguf")),
    "qwen35, NextN": lambda folder: Subject(
        write_qwen35(folder / "nextn.gguf", with_head=True), mtp=True
    ),
    "qwen35moe": lambda folder: Subject(write_qwen35(folder / "qwen35moe.gguf", experts=4)),
    "mamba": lambda folder: Subject(write_mamba(folder / "mamba.gguf")),
}


def subjects(folder: Path) -> Iterator[tuple[str, Subject]]:
    """Tiny models, then real shapes without data."""
    for name, write in TINY.items():
        yield name, write(folder)
    for name in NAMES:
        model = write_sparse(model_header(name), folder / f"{name}.gguf", VOCABULARIES[name])
        yield name, Subject(model, is_sparse=True)
        if name == QWEN35:
            yield f"{name}, NextN", Subject(model, mtp=True, is_sparse=True)
    for size in SHAPES:
        model = write_sparse(gemma_header(size), folder / f"{size}.gguf")
        draft = write_sparse(assistant_header(size), folder / f"{size}-mtp.gguf")
        yield f"Gemma 4 {size}", Subject(model, is_sparse=True)
        yield f"Gemma 4 {size}, MTP", Subject(model, draft, is_sparse=True)
